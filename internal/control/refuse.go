package control

import (
	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/operator"
)

// invalid is for what can never work.
func invalid(op string, err error, next string) error {
	return operator.Refuse(operator.ErrInvalid, &fleet.Error{Op: op, Err: err, Next: next})
}

// refused is for what cannot be done as things stand now.
func refused(op string, host fleet.HostID, err error, next string) error {
	return operator.Refuse(operator.ErrState, &fleet.Error{Op: op, Host: host, Err: err, Next: next})
}
