package wire_test

import (
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/proto"

	kwv1 "github.com/kernwave/kernwave/api/gen/kernwave/v1"
	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/wire"
)

// FuzzReport and FuzzAnswer read what comes over the wire. What was understood goes back over the wire unchanged.
func FuzzReport(f *testing.F) {
	fuzz(f, func() *kwv1.CheckInRequest { return &kwv1.CheckInRequest{} }, wire.ReportToProto, wire.ReportFromProto)
}

func FuzzAnswer(f *testing.F) {
	fuzz(f, func() *kwv1.CheckInResponse { return &kwv1.CheckInResponse{} }, wire.DesiredToProto, wire.DesiredFromProto)
}

func fuzz[G fleet.Report | fleet.Desired, P proto.Message](f *testing.F, empty func() P, to func(G) P, from func(P) G) {
	var full G
	n := 0
	fill(reflect.ValueOf(&full).Elem(), &n)
	seed, err := proto.Marshal(to(full))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		p := empty()
		if proto.Unmarshal(b, p) != nil {
			return
		}
		want := from(p)
		b, err := proto.Marshal(to(want))
		if err != nil {
			t.Fatalf("what was understood cannot be said: %v: %+v", err, want)
		}
		back := empty()
		if err := proto.Unmarshal(b, back); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, from(back), cmpopts.EquateNaNs()); diff != "" {
			t.Fatalf("it changed on its way (-want +got):\n%s", diff)
		}
	})
}
