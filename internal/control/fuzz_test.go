package control

import (
	"context"
	"reflect"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	kwv1 "github.com/kernwave/kernwave/api/gen/kernwave/v1"
	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/operator"
	"github.com/kernwave/kernwave/internal/store"
	"github.com/kernwave/kernwave/internal/wire"
)

// FuzzCheckIn lets one host of a rollout say anything that can be said. The control plane goes on; the other hosts'
// rows and operations are none of its business, and it gets no grant that it did not have.
func FuzzCheckIn(f *testing.F) {
	seed := func(r fleet.Report) {
		b, err := proto.Marshal(wire.ReportToProto(r))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	for _, p := range fleet.Phases() {
		seed(fleet.Report{
			Now:       fleet.HostState{BootID: "b", Release: newRelease, InService: true},
			Operation: &fleet.OperationReport{ID: "o-1", Phase: p, Release: newRelease, Trial: &fleet.Trial{Release: newRelease}},
		})
	}
	seed(fleet.Report{Facts: &fleet.Facts{Arch: "amd64"}, FactsHash: "x", Operation: &fleet.OperationReport{ID: "o-of-nobody", Phase: "dancing"}})
	f.Fuzz(func(t *testing.T, b []byte) {
		var p kwv1.CheckInRequest
		if proto.Unmarshal(b, &p) != nil {
			return
		}
		h := newHouse(t, "a", "a", "b")
		h.start(operator.RolloutSpec{})
		h.run(10*time.Second, nil)
		rest := func() (hosts []fleet.Host, ops []fleet.Operation) {
			err := h.st.View(t.Context(), func(r store.Reader) error {
				for _, s := range h.hosts[1:] {
					one, err := r.Host(s.id)
					if err != nil {
						return err
					}
					hosts = append(hosts, one)
					of, err := r.OperationsOn(s.id, 0)
					if err != nil {
						return err
					}
					ops = append(ops, of...)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			return hosts, ops
		}
		hosts, ops := rest()
		// internal/api has seen to it that a certificate speaks for its own host.
		r := wire.ReportFromProto(&p)
		r.Host = h.hosts[0].id
		if o := h.hosts[0].op; o != nil && r.Operation != nil && r.Operation.ID == "o-1" {
			r.Operation.ID = o.ID // the one at hand
		}
		var said [2]int
		for i := range said {
			if _, err := h.c.CheckIn(context.Background(), r, h.now); err != nil {
				t.Fatalf("%v\n%+v", err, r)
			}
			said[i] = len(h.events(""))
		}
		if said[0] != said[1] {
			t.Fatalf("repeated, it changed something more: %+v\n%s", r, h.dump())
		}
		hostsAfter, opsAfter := rest()
		if !reflect.DeepEqual(hosts, hostsAfter) || !reflect.DeepEqual(ops, opsAfter) {
			t.Fatalf("it changed other hosts: %+v", r)
		}
		h.hosts[0].down = true
		h.run(20*time.Second, nil) // ticks, and checks the budget
	})
}
