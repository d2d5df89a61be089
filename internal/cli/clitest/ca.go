package clitest

import (
	"context"
	"errors"
	"strings"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	kwv1 "github.com/kernwave/kernwave/api/gen/kernwave/v1"
	"github.com/kernwave/kernwave/internal/wire"
)

func (f *fleetService) UnfreezeHost(_ context.Context, r *connect.Request[kwv1.UnfreezeHostRequest]) (*connect.Response[kwv1.Host], error) {
	h, err := f.find(r.Msg.GetId())
	if err != nil {
		return nil, err
	}
	if h.Frozen == "" {
		return nil, refuse(connect.CodeFailedPrecondition, "unfreeze the host", string(h.ID), "the host is not frozen", "see what holds it: kernwave why "+string(h.ID))
	}
	changed := *h
	changed.Frozen = ""
	return answer(wire.OperatorHostToProto(changed))
}

func (f *fleetService) authorities() *kwv1.GetCAResponse {
	f.s.mu.Lock()
	defer f.s.mu.Unlock()
	one := func(name, state string, sum string) *kwv1.Authority {
		return &kwv1.Authority{
			Name: name, State: state, Sha256: strings.Repeat(sum, 16), Der: f.s.srv.Certificate().Raw,
			NotBefore: timestamppb.New(Now.AddDate(-1, 0, 0)), NotAfter: timestamppb.New(Now.AddDate(9, 0, 0)),
		}
	}
	res := &kwv1.GetCAResponse{Authorities: []*kwv1.Authority{one("Kernwave CA 4a1b2c3d", "serving", "4c1d")}}
	if f.s.rotating {
		res.Authorities = append(res.Authorities, one("Kernwave CA 5e6f7a8b", "next", "77aa"))
		res.Hosts, res.Ready = 40, 39
		res.Waiting = []*kwv1.WaitingHost{{Host: "web-9", LastSeen: timestamppb.New(Now.AddDate(0, 0, -3)), Why: "was not heard since"}}
	}
	return res
}

func (f *fleetService) GetCA(context.Context, *connect.Request[kwv1.GetCARequest]) (*connect.Response[kwv1.GetCAResponse], error) {
	return answer(f.authorities())
}

func (f *fleetService) RotateCA(context.Context, *connect.Request[kwv1.RotateCARequest]) (*connect.Response[kwv1.GetCAResponse], error) {
	f.s.mu.Lock()
	again := f.s.rotating
	f.s.rotating = true
	f.s.mu.Unlock()
	if again {
		return nil, refuse(connect.CodeFailedPrecondition, "rotate the CA", "", "a rotation is under way", "kernwave ca show")
	}
	return answer(f.authorities())
}

func (f *fleetService) RetireCA(_ context.Context, r *connect.Request[kwv1.RetireCARequest]) (*connect.Response[kwv1.GetCAResponse], error) {
	if !r.Msg.GetForce() {
		return nil, refuse(connect.CodeFailedPrecondition, "retire the CA", "", errors.New("1 host has not learned the next one: web-9").Error(),
			"bring it back; or, if it may be enrolled anew: kernwave ca retire --force")
	}
	f.s.mu.Lock()
	f.s.rotating = false
	f.s.mu.Unlock()
	return answer(f.authorities())
}
