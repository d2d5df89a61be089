package wire

import (
	kwv1 "github.com/kernwave/kernwave/api/gen/kernwave/v1"
	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/operator"
)

// RebuildToProto converts how far a restored control plane has come; nil stays nil.
func RebuildToProto(r *operator.Rebuild) *kwv1.Rebuild {
	if r == nil {
		return nil
	}
	return &kwv1.Rebuild{
		Why: r.Why, Since: TimeToProto(r.Since), Hosts: int32(r.Hosts), Reported: int32(r.Reported),
		Waiting: list(r.Waiting, func(o operator.Out) *kwv1.Out { return &kwv1.Out{Host: string(o.Host), Why: o.Why} }),
	}
}

// RebuildFromProto converts how far a restored control plane has come; nil stays nil.
func RebuildFromProto(p *kwv1.Rebuild) *operator.Rebuild {
	if p == nil {
		return nil
	}
	return &operator.Rebuild{
		Why: p.GetWhy(), Since: TimeFromProto(p.GetSince()), Hosts: int(p.GetHosts()), Reported: int(p.GetReported()),
		Waiting: list(p.GetWaiting(), func(o *kwv1.Out) operator.Out {
			return operator.Out{Host: fleet.HostID(o.GetHost()), Why: o.GetWhy()}
		}),
	}
}
