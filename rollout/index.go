package rollout

import (
	"iter"
	"math/bits"

	"github.com/kernwave/kernwave/fleet"
)

// Index says which hosts of a plan Step has to look at, so that it need not walk all of them each time: in a rollout
// to 100,000 hosts some hundreds have an operation open. It may name more than it must, never less: every rule looks at
// the host itself all the same.
type Index struct {
	pos map[fleet.HostID]int
	// Sets of positions in Plan.Hosts, which are in plan order.
	open    set // the newest operation has not ended
	watched set // open, or ended with a problem: what watch takes note of
	undone  set // not committed on the way forward
}

// Indexed is a [View] that keeps an Index. Any other is walked whole: the same decisions, only slower.
type Indexed interface {
	View
	Index() *Index
}

// NewIndex is the index of a plan before any operation.
func NewIndex(p Plan) *Index {
	x := &Index{pos: make(map[fleet.HostID]int, len(p.Hosts))}
	n := (len(p.Hosts) + 63) / 64
	x.open, x.watched, x.undone = make(set, n), make(set, n), make(set, n)
	for i, h := range p.Hosts {
		x.pos[h.ID] = i
		x.undone.put(i, true)
	}
	return x
}

// Put says which operation is now the newest of h. It must be called whenever that or anything in it changes. A host
// that is not in the plan is ignored.
func (x *Index) Put(h fleet.HostID, newest fleet.Operation) {
	i, ok := x.pos[h]
	if !ok {
		return
	}
	open := !newest.Phase.Ended()
	x.open.put(i, open)
	x.watched.put(i, open || newest.Problem != nil)
	x.undone.put(i, !committedForward(&newest))
}

// Drop says that h has no operation any more.
func (x *Index) Drop(h fleet.HostID) {
	if i, ok := x.pos[h]; ok {
		x.open.put(i, false)
		x.watched.put(i, false)
		x.undone.put(i, true)
	}
}

// Has returns the place of h in the plan.
func (x *Index) Has(h fleet.HostID) (pos int, ok bool) {
	pos, ok = x.pos[h]
	return pos, ok
}

func committedForward(op *fleet.Operation) bool {
	return op.Stage != fleet.RollbackStage && op.Phase == fleet.PhaseCommitted
}

// set is a set of small numbers, one bit for each.
type set []uint64

func (s set) put(i int, in bool) {
	if in {
		s[i/64] |= 1 << (i % 64)
	} else {
		s[i/64] &^= 1 << (i % 64)
	}
}

// newStepper looks at v, by its index if it has one.
func newStepper(v View) *stepper {
	s := &stepper{v: v, r: v.Rollout()}
	if v, ok := v.(Indexed); ok {
		s.x = v.Index()
	}
	return s
}

func (s *stepper) openHosts() iter.Seq[PlanHost] {
	return s.hostsIn(func(x *Index) set { return x.open })
}

func (s *stepper) watchedHosts() iter.Seq[PlanHost] {
	return s.hostsIn(func(x *Index) set { return x.watched })
}

func (s *stepper) undoneHosts() iter.Seq[PlanHost] {
	return s.hostsIn(func(x *Index) set { return x.undone })
}

// hostsIn are hosts in plan order: those of a set, or all where there is no index.
func (s *stepper) hostsIn(which func(*Index) set) iter.Seq[PlanHost] {
	return func(yield func(PlanHost) bool) {
		hosts := s.r.Plan.Hosts
		if s.x == nil {
			for _, h := range hosts {
				if !yield(h) {
					return
				}
			}
			return
		}
		for i, w := range which(s.x) {
			for ; w != 0; w &= w - 1 {
				if !yield(hosts[i*64+bits.TrailingZeros64(w)]) {
					return
				}
			}
		}
	}
}

func (s *stepper) has(id fleet.HostID) bool {
	_, ok := s.find(id)
	return ok
}

// find returns the plan's word on a host.
func (s *stepper) find(id fleet.HostID) (PlanHost, bool) {
	if s.x != nil {
		i, ok := s.x.pos[id]
		if !ok {
			return PlanHost{}, false
		}
		return s.r.Plan.Hosts[i], true
	}
	for _, h := range s.r.Plan.Hosts {
		if h.ID == id {
			return h, true
		}
	}
	return PlanHost{}, false
}
