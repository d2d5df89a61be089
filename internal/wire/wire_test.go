package wire_test

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	kwv1 "github.com/kernwave/kernwave/api/gen/kernwave/v1"
	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/wire"
)

// TestRoundTripKeepsEveryField fills every field with a value of its own, so
// that a field that is forgotten, or swapped with another, fails.
func TestRoundTripKeepsEveryField(t *testing.T) {
	t.Run("facts", func(t *testing.T) { roundTrip(t, wire.FactsToProto, wire.FactsFromProto, nil) })
	t.Run("host state", func(t *testing.T) { roundTrip(t, wire.HostStateToProto, wire.HostStateFromProto, nil) })
	t.Run("host", func(t *testing.T) {
		// FactsHash and Lineage are the store's; the wire carries the facts themselves.
		roundTrip(t, wire.HostToProto, wire.HostFromProto, func(h *fleet.Host) { h.FactsHash, h.Lineage = "", fleet.Lineage{} })
	})
	t.Run("host type", func(t *testing.T) { roundTrip(t, wire.HostTypeToProto, wire.HostTypeFromProto, nil) })
	t.Run("kernel", func(t *testing.T) { roundTrip(t, wire.KernelToProto, wire.KernelFromProto, nil) })
	t.Run("operation", func(t *testing.T) { roundTrip(t, wire.OperationToProto, wire.OperationFromProto, nil) })
	t.Run("report", func(t *testing.T) { roundTrip(t, wire.ReportToProto, wire.ReportFromProto, nil) })
	t.Run("desired", func(t *testing.T) { roundTrip(t, wire.DesiredToProto, wire.DesiredFromProto, nil) })
	t.Run("confirmation", func(t *testing.T) { roundTrip(t, wire.ConfirmationToProto, wire.ConfirmationFromProto, nil) })
}

func roundTrip[G any, P proto.Message](t *testing.T, to func(G) P, from func(P) G, but func(*G)) {
	t.Helper()
	var want G
	n := 0
	fill(reflect.ValueOf(&want).Elem(), &n)
	if but != nil {
		but(&want)
	}
	b, err := proto.Marshal(to(want)) // over the wire, not only through memory
	if err != nil {
		t.Fatal(err)
	}
	p := to(want).ProtoReflect().New().Interface()
	if err := proto.Unmarshal(b, p); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, from(p.(P))); diff != "" {
		t.Errorf("round trip changed it (-want +got):\n%s", diff)
	}
	var zero G
	if diff := cmp.Diff(zero, from(to(zero))); diff != "" {
		t.Errorf("round trip of the zero value changed it (-want +got):\n%s", diff)
	}
}

// fill sets every exported field that it can reach to a value that no other has.
func fill(v reflect.Value, n *int) {
	*n++
	switch v.Interface().(type) {
	case time.Time:
		v.Set(reflect.ValueOf(time.Unix(int64(1_700_000_000+*n), int64(*n)).UTC()))
		return
	case time.Duration:
		v.SetInt(int64(*n) * int64(time.Millisecond))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), n)
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), n)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(v.Index(0), n)
		fill(v.Index(1), n)
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range 2 {
			k, e := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			fill(k, n)
			fill(e, n)
			v.SetMapIndex(k, e)
		}
	case reflect.String:
		v.SetString(fmt.Sprintf("v%d", *n))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int32, reflect.Int64:
		v.SetInt(int64(*n))
	case reflect.Uint64:
		v.SetUint(uint64(*n))
	case reflect.Float64:
		v.SetFloat(float64(*n) + 0.5)
	default:
		panic("fill does not know " + v.Type().String())
	}
}

// TestEveryProtoFieldIsSet is the other direction: a field added to a message
// that no conversion fills fails here.
func TestEveryProtoFieldIsSet(t *testing.T) {
	notOurs := map[string]bool{ // the control plane's, set by its handlers
		"kernwave.v1.Host.last_seen": true, "kernwave.v1.Host.silent": true, "kernwave.v1.Host.operation": true,
	}
	var report fleet.Report
	var desired fleet.Desired
	var host fleet.Host
	var op fleet.Operation
	var conf fleet.Confirmation
	n := 0
	for _, v := range []any{&report, &desired, &host, &op, &conf} {
		fill(reflect.ValueOf(v).Elem(), &n)
	}
	for _, m := range []proto.Message{
		wire.ReportToProto(report), wire.DesiredToProto(desired), wire.HostToProto(host),
		wire.OperationToProto(op), wire.ConfirmationToProto(conf),
	} {
		everyFieldSet(t, m, notOurs)
	}
}

func TestErrorRoundTrip(t *testing.T) {
	want := &fleet.Error{Op: "prepare kernel 1", Host: "web-1", Err: fmt.Errorf("no space left on device"), Next: "free 200 MB in /boot"}
	got := wire.ErrorFromProto(wire.ErrorToProto(want))
	if got.Error() != want.Error() || got.Next != want.Next {
		t.Errorf("got %q next %q, want %q next %q", got, got.Next, want, want.Next)
	}
}

func TestNilMessagesAreZeroValues(t *testing.T) {
	if got := wire.FactsFromProto(nil); !reflect.DeepEqual(got, fleet.Facts{}) {
		t.Errorf("facts from nil: got %+v", got)
	}
	if got := wire.ReportFromProto((*kwv1.CheckInRequest)(nil)); !reflect.DeepEqual(got, fleet.Report{}) {
		t.Errorf("report from nil: got %+v", got)
	}
	if got := wire.DesiredFromProto(nil); !reflect.DeepEqual(got, fleet.Desired{}) {
		t.Errorf("desired from nil: got %+v", got)
	}
}
