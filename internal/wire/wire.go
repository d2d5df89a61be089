// Package wire turns the fleet types into the generated protobuf types and
// back. It is the one place, besides the API handlers, that knows both; it
// decides nothing and checks nothing: what came from outside is validated by
// who uses it. It stays light, because the agent links it: only fleet, the
// plain types of internal/operator and the generated code.
//
//	req := wire.ReportToProto(report)
//	desired := wire.DesiredFromProto(resp.Msg)
//
// A zero time and a zero duration are unset on the wire, and an unset one is
// zero here. Nil messages give zero values, never a panic.
package wire

import (
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// TimeToProto leaves a zero time unset.
func TimeToProto(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// TimeFromProto returns UTC; unset gives the zero time.
func TimeFromProto(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}

// DurationToProto leaves a zero duration unset.
func DurationToProto(d time.Duration) *durationpb.Duration {
	if d == 0 {
		return nil
	}
	return durationpb.New(d)
}

// DurationFromProto gives zero for unset; out of range saturates.
func DurationFromProto(d *durationpb.Duration) time.Duration {
	if d == nil {
		return 0
	}
	return d.AsDuration()
}

// list converts each element; an empty list is nil on both sides.
func list[A, B any](in []A, f func(A) B) []B {
	if len(in) == 0 {
		return nil
	}
	out := make([]B, len(in))
	for i, v := range in {
		out[i] = f(v)
	}
	return out
}
