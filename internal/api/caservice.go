package api

import (
	"context"

	"connectrpc.com/connect"

	kwv1 "github.com/kernwave/kernwave/api/gen/kernwave/v1"
	"github.com/kernwave/kernwave/internal/operator"
)

// GetCA shows the authorities behind the hosts' certificates, and how far a rotation has come.
func (s fleetService) GetCA(context.Context, *connect.Request[kwv1.GetCARequest]) (*connect.Response[kwv1.GetCAResponse], error) {
	return nil, refuse(operator.ErrState, "show the authorities", "", "not built yet", "wait")
}

// RotateCA makes the next authority: hosts and control plane trust both from then on.
func (s fleetService) RotateCA(context.Context, *connect.Request[kwv1.RotateCARequest]) (*connect.Response[kwv1.GetCAResponse], error) {
	return nil, refuse(operator.ErrState, "rotate the CA", "", "not built yet", "wait")
}

// RetireCA ends a rotation: the old authority counts for nothing any more.
func (s fleetService) RetireCA(context.Context, *connect.Request[kwv1.RetireCARequest]) (*connect.Response[kwv1.GetCAResponse], error) {
	return nil, refuse(operator.ErrState, "retire the CA", "", "not built yet", "wait")
}
