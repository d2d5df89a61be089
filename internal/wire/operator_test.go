package wire_test

import (
	"reflect"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/operator"
	"github.com/kernwave/kernwave/internal/wire"
)

func TestOperatorRoundTripKeepsEveryField(t *testing.T) {
	t.Run("host", func(t *testing.T) {
		roundTrip(t, wire.OperatorHostToProto, wire.OperatorHostFromProto, func(h *operator.Host) { h.FactsHash, h.Lineage = "", fleet.Lineage{} })
	})
	t.Run("why", func(t *testing.T) { roundTrip(t, wire.WhyToProto, wire.WhyFromProto, nil) })
	t.Run("budget", func(t *testing.T) { roundTrip(t, wire.BudgetToProto, wire.BudgetFromProto, nil) })
	t.Run("group use", func(t *testing.T) { roundTrip(t, wire.GroupUseToProto, wire.GroupUseFromProto, nil) })
	t.Run("event", func(t *testing.T) { roundTrip(t, wire.EventToProto, wire.EventFromProto, nil) })
	t.Run("incident", func(t *testing.T) { roundTrip(t, wire.IncidentToProto, wire.IncidentFromProto, nil) })
	t.Run("approval", func(t *testing.T) {
		roundTrip(t, wire.ApprovalToProto, wire.ApprovalFromProto, func(a *operator.Approval) { a.ID = 0 })
	})
	t.Run("account", func(t *testing.T) { roundTrip(t, wire.AccountToProto, wire.AccountFromProto, nil) })
	t.Run("rollout spec", func(t *testing.T) { roundTrip(t, wire.RolloutSpecToProto, wire.RolloutSpecFromProto, nil) })
	t.Run("rollout", func(t *testing.T) { roundTrip(t, wire.RolloutToProto, wire.RolloutFromProto, nil) })
}

func TestEveryOperatorProtoFieldIsSet(t *testing.T) {
	var v struct {
		Host     operator.Host
		Why      operator.Why
		Budget   operator.Budget
		Use      operator.GroupUse
		Event    operator.Event
		Incident operator.Incident
		Approval operator.Approval
		Account  operator.Account
		Rollout  operator.Rollout
	}
	n := 0
	fill(reflect.ValueOf(&v).Elem(), &n)
	for _, m := range []proto.Message{
		wire.OperatorHostToProto(v.Host), wire.WhyToProto(v.Why), wire.BudgetToProto(v.Budget), wire.GroupUseToProto(v.Use),
		wire.EventToProto(v.Event), wire.IncidentToProto(v.Incident), wire.ApprovalToProto(v.Approval),
		wire.AccountToProto(v.Account), wire.RolloutToProto(v.Rollout),
	} {
		everyFieldSet(t, m, nil)
	}
}

func TestSoakOfNothingIsNotTheDefault(t *testing.T) {
	none := time.Duration(0)
	got := wire.RolloutSpecFromProto(wire.RolloutSpecToProto(operator.RolloutSpec{Soak: &none}))
	if got.Soak == nil || *got.Soak != 0 {
		t.Errorf("a soak of 0 came back as %v", got.Soak)
	}
	if got := wire.RolloutSpecFromProto(wire.RolloutSpecToProto(operator.RolloutSpec{})); got.Soak != nil {
		t.Errorf("no soak came back as %v", *got.Soak)
	}
}
