package api

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"connectrpc.com/connect"

	kwv1 "github.com/kernwave/kernwave/api/gen/kernwave/v1"
	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/operator"
	"github.com/kernwave/kernwave/internal/store"
	"github.com/kernwave/kernwave/internal/wire"
)

// Bounds of enrolment tokens: whoever finds one can bring a machine of their own into the fleet.
const (
	defaultTokenLife = time.Hour
	maxTokenLife     = 30 * 24 * time.Hour
	maxTokenUses     = 100_000
)

// CreateEnrolToken makes a token that lets machines enrol. It is shown once.
func (s fleetService) CreateEnrolToken(ctx context.Context, req *connect.Request[kwv1.CreateEnrolTokenRequest]) (*connect.Response[kwv1.CreateEnrolTokenResponse], error) {
	const op = "create an enrolment token"
	life, uses := wire.DurationFromProto(req.Msg.GetLife()), int(req.Msg.GetUses())
	if life == 0 {
		life = defaultTokenLife
	}
	if uses == 0 {
		uses = 1
	}
	if life < time.Second || life > maxTokenLife {
		return nil, refuse(operator.ErrInvalid, op, "", "a life of "+life.String()+" is not allowed", "use 1s to 30 days")
	}
	if uses < 1 || uses > maxTokenUses {
		return nil, refuse(operator.ErrInvalid, op, "", fmt.Sprintf("%d uses are not allowed", uses), fmt.Sprintf("use 1 to %d", maxTokenUses))
	}
	if err := checkWhy(op, req.Msg.GetNote()); err != nil {
		return nil, err
	}
	token, err := newToken(enrolToken, s.Rand)
	if err != nil {
		return nil, err
	}
	who, now := callerOf(ctx).account.Name, s.Now()
	row := store.EnrolToken{
		Hash: hashToken(token), Note: req.Msg.GetNote(), Uses: uses, UsesLeft: uses, CreatedBy: who, CreatedAt: now, ExpiresAt: now.Add(life),
	}
	if err := s.Store.Update(ctx, func(tx store.Tx) error {
		if err := tx.PutEnrolToken(row); err != nil {
			return err
		}
		_, err := tx.AppendEvent(store.Event{
			At: now, Who: who, Kind: "token.created", Why: row.Note,
			What: fmt.Sprintf("an enrolment token for %s, good until %s", count(uses, "host"), row.ExpiresAt.UTC().Format(time.RFC3339)),
		})
		return err
	}); err != nil {
		return nil, err
	}
	return connect.NewResponse(&kwv1.CreateEnrolTokenResponse{
		Token: token, ExpiresAt: wire.TimeToProto(row.ExpiresAt), Uses: int32(uses), CaSha256: s.ca.Serving().SHA256(),
	}), nil
}

// CreateOperator lets a person or program in. The token is shown once.
func (s fleetService) CreateOperator(ctx context.Context, req *connect.Request[kwv1.CreateOperatorRequest]) (*connect.Response[kwv1.CreateOperatorResponse], error) {
	const op = "create the operator"
	m := req.Msg
	// The same letters as a host's name: it stands in events and shell commands.
	if _, err := fleet.ParseHostID(m.GetName()); err != nil {
		return nil, refuse(operator.ErrInvalid, op, "", fmt.Sprintf("an operator cannot be called %q", clip(m.GetName(), 80)), "use up to 63 letters, digits, '-', '.' and '_'")
	}
	if m.GetName() == "control" {
		return nil, refuse(operator.ErrInvalid, op, "", "the control plane itself goes by the name control in the record", "choose another name")
	}
	role := operator.Role(m.GetRole())
	if !role.Known() {
		return nil, refuse(operator.ErrInvalid, op, "", fmt.Sprintf("there is no role %q", clip(m.GetRole(), 40)), "use viewer, operator or admin")
	}
	life := wire.DurationFromProto(m.GetLife())
	if life < 0 || life > 0 && life < time.Second {
		return nil, refuse(operator.ErrInvalid, op, "", "a life of "+life.String()+" is not allowed", "use at least 1s; 0 is for ever")
	}
	token, err := newToken(operatorToken, s.Rand)
	if err != nil {
		return nil, err
	}
	who, now := callerOf(ctx).account.Name, s.Now()
	row := store.Operator{Account: operator.Account{Name: m.GetName(), Role: role, CreatedAt: now}, TokenHash: hashToken(token), CreatedBy: who}
	if life > 0 {
		row.ExpiresAt = now.Add(life)
	}
	s.operators.changing.Lock()
	defer s.operators.changing.Unlock()
	if err := s.Store.Update(ctx, func(tx store.Tx) error {
		if _, err := tx.Operator(row.Name); err == nil {
			return refuse(operator.ErrExists, op, "", "there is an operator "+row.Name+" already", "choose another name, or delete the old one first: its token cannot be shown again")
		} else if !errors.Is(err, store.ErrNotFound) {
			return err
		}
		if err := tx.PutOperator(row); err != nil {
			return err
		}
		_, err := tx.AppendEvent(store.Event{At: now, Who: who, Kind: "operator.created", What: fmt.Sprintf("operator %s is %s", row.Name, role)})
		return err
	}); err != nil {
		return nil, err
	}
	s.operators.add(row)
	return connect.NewResponse(&kwv1.CreateOperatorResponse{Token: token}), nil
}

// ListOperators lists the operators, without tokens.
func (s fleetService) ListOperators(ctx context.Context, _ *connect.Request[kwv1.ListOperatorsRequest]) (*connect.Response[kwv1.ListOperatorsResponse], error) {
	var rows []store.Operator
	if err := s.Store.View(ctx, func(r store.Reader) (err error) {
		rows, err = r.Operators()
		return err
	}); err != nil {
		return nil, err
	}
	return connect.NewResponse(&kwv1.ListOperatorsResponse{Operators: list(rows, func(o store.Operator) *kwv1.Operator {
		return wire.AccountToProto(o.Account)
	})}), nil
}

// DeleteOperator makes an operator's token worthless. The last admin without an end stays: nobody could make another.
func (s fleetService) DeleteOperator(ctx context.Context, req *connect.Request[kwv1.DeleteOperatorRequest]) (*connect.Response[kwv1.DeleteOperatorResponse], error) {
	const op = "delete the operator"
	name := req.Msg.GetName()
	who, now := callerOf(ctx).account.Name, s.Now()
	s.operators.changing.Lock()
	defer s.operators.changing.Unlock()
	if err := s.Store.Update(ctx, func(tx store.Tx) error {
		rows, err := tx.Operators()
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(rows, func(o store.Operator) bool { return o.Name == name }) {
			return refuse(operator.ErrNotFound, op, "", fmt.Sprintf("there is no operator %q", clip(name, 80)), "see kernwave operator list")
		}
		if !slices.ContainsFunc(rows, func(o store.Operator) bool {
			return o.Name != name && o.Role == operator.RoleAdmin && o.ExpiresAt.IsZero()
		}) {
			return refuse(operator.ErrState, op, "", name+" is the last admin whose token does not run out", "create another admin first")
		}
		if err := tx.DeleteOperator(name); err != nil {
			return err
		}
		_, err = tx.AppendEvent(store.Event{At: now, Who: who, Kind: "operator.deleted", What: "operator " + name + " was deleted"})
		return err
	}); err != nil {
		return nil, err
	}
	s.operators.remove(name)
	return connect.NewResponse(&kwv1.DeleteOperatorResponse{}), nil
}

// count says "1 host", "3 hosts".
func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
