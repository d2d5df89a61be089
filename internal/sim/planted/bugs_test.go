package planted

// bug is a mistake that somebody could make, as changes of the text of files.
type bug struct {
	name  string
	about string
	edits []edit
	// promises are those that may be found broken.
	promises []int
	// within is how many seeds, from 1 on, are enough here: a few times what it took when it was measured.
	within int
}

// edit replaces a text that stands exactly once in a file of this module.
type edit struct{ file, old, new string }

const (
	arbiter = "internal/control/arbiter.go"
	checkin = "internal/control/checkin.go"
	confirm = "internal/control/confirm.go"
	forward = "rollout/forward.go"
	model   = "internal/agent/model.go"
	order   = "internal/control/order.go"
	world   = "internal/control/world.go"
	rebuild = "internal/store/rebuild.go"
)

var bugs = []bug{
	{
		name: "silent-hosts", about: "a budget that ignores silent hosts",
		edits: []edit{{
			arbiter,
			`	if u := w.c.unheard(h.ID, w.now); !u.IsZero() {
		return w.silentSince(u)
	}
`,
			``,
		}},
		promises: []int{1}, within: 30,
	},
	{
		name: "pause-too-late", about: "a pause that is read when the word goes out, and not at the last moment",
		edits: []edit{{
			confirm,
			`	if why := ask(o, id, host); why != "" {
		return why, nil
	}
`,
			`	if why := ask(o, id, host); why != "" && o.r.State.Paused == "" {
		return why, nil
	}
`,
		}},
		promises: []int{4}, within: 250,
	},
	{
		name: "grant-twice", about: "a control plane that after its start does not know the grants of the one before",
		edits: []edit{{
			world,
			`	w.grants = store.Sorted(hot.Grants, nil)
`,
			`	w.grants = slices.DeleteFunc(store.Sorted(hot.Grants, nil), func(g store.Grant) bool { return g.GivenAt.Before(c.started) })
`,
		}},
		promises: []int{1}, within: 120,
	},
	{
		name: "timeout-frees", about: "a timeout after which a broken host does not count as out any more",
		edits: []edit{
			{
				arbiter,
				`		return "", nil
	}
	op, err := w.r.Operation(g.Operation)
`,
				`		if w.now.Sub(g.ExpiresAt) > 20*time.Minute {
			return "it took too long", nil
		}
		return "", nil
	}
	op, err := w.r.Operation(g.Operation)
`,
			},
			{
				arbiter,
				`	if h.Status != fleet.StatusActive {
		return ""
	}
	if why := w.c.distrusted(h, w.now); why != "" {
		return why
	}
`,
				`	if h.Status != fleet.StatusActive {
		return ""
	}
	if op, ok := w.x.openOn(h.ID); ok && w.now.Sub(op.PhaseSince) > 20*time.Minute {
		return ""
	}
	if why := w.c.distrusted(h, w.now); why != "" {
		return why
	}
`,
			},
		},
		promises: []int{1}, within: 120,
	},
	{
		name: "repeated-check-in", about: "a check-in that comes a second time, and is taken for news, begins the operation again",
		edits: []edit{
			{
				order,
				`	if rep.Seq == 0 {
		return turn{counts: true, legacy: true}
	}
`,
				`	if rep.Seq >= 0 {
		return turn{counts: true, legacy: true}
	}
`,
			},
			{
				checkin,
				`	if len(ops) == 1 && !ops[0].Phase.Ended() {
		op := ops[0]
`,
				`	if len(ops) == 1 && (!ops[0].Phase.Ended() || rep.Operation != nil && rep.Operation.ID == ops[0].ID && !rep.Operation.Phase.Ended()) {
		op := ops[0]
`,
			},
		},
		promises: []int{1, 2, 6}, within: 30,
	},
	{
		name: "restored-store", about: "a restored store that forgets what is out, and what has failed: no journal is asked for",
		edits: []edit{
			{rebuild, `return r.Incarnation != 0 && r.DoneAt.IsZero()`, `return false`},
			{rebuild, `return h.Status == fleet.StatusActive && h.JournalTold < r.Incarnation`, `return false && h.Status == fleet.StatusActive`},
		},
		promises: []int{1, 3, 6}, within: 180,
	},
	{
		name: "wave-too-early", about: "a wave that does not wait for the one before",
		edits:    []edit{{forward, `if h.Stage > s.r.State.Stage || !complete && ahead`, `if !complete && ahead`}},
		promises: []int{3}, within: 30,
	},
	{
		name: "no-soak", about: "a wave that does not wait for the soak of the one before",
		edits:    []edit{{forward, `if s.now.Before(cur.SoakUntil) {`, `if s.now.Before(cur.SoakUntil) && s.v.Stopped() != "" {`}},
		promises: []int{3}, within: 30,
	},
	{
		name: "older-control-plane", about: "a host that obeys an older control plane after a newer one",
		edits:    []edit{{model, `if m.seen.Refuses(from) != "" {`, `if m.seen.Refuses(from) != "" && m.op == nil {`}},
		promises: []int{1, 6}, within: 30,
	},
}
