package wire_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	kwv1 "github.com/kernwave/kernwave/api/gen/kernwave/v1"
	"github.com/kernwave/kernwave/internal/operator"
	"github.com/kernwave/kernwave/internal/wire"
)

func TestRebuildRoundTrip(t *testing.T) {
	roundTrip(t, func(r operator.Rebuild) *kwv1.Rebuild { return wire.RebuildToProto(&r) },
		func(p *kwv1.Rebuild) operator.Rebuild { return *wire.RebuildFromProto(p) }, nil)
	if wire.RebuildToProto(nil) != nil || wire.RebuildFromProto(nil) != nil {
		t.Error("nothing became something")
	}
	var none *operator.Rebuild
	if d := cmp.Diff(none, wire.RebuildFromProto(wire.RebuildToProto(none))); d != "" {
		t.Error(d)
	}
}
