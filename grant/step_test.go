package grant

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/kernwave/kernwave/fleet"
)

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

const life = 30 * time.Second

func TestStep(t *testing.T) {
	web := Groups{"type": "web"}
	byType := []Budget{{"type", 1}}
	for _, c := range []struct {
		name string
		v    View
		want []Decision
		why  string // of op-1
	}{
		{"an empty fleet wants nothing", View{}, nil, ""},
		{
			"room: granted",
			View{Budgets: byType, Requests: []Request{{Operation: "op-1", Host: "a", Groups: web}}},
			[]Decision{Give{"op-1", "a", noon.Add(life)}},
			"",
		},
		{
			"a silent host uses the budget up",
			View{
				Budgets: byType, Requests: []Request{{Operation: "op-1", Host: "a", Groups: web}},
				Out: []Out{{"b", web, "is silent"}},
			},
			nil, "budget spent: type web, 1 of 1 out (b is silent)",
		},
		{
			"the oldest wish first, and a limit is not overdrawn in one step",
			View{Budgets: byType, Requests: []Request{
				{Operation: "op-1", Host: "a", Groups: web, Since: noon},
				{Operation: "op-2", Host: "b", Groups: web, Since: noon.Add(-time.Minute)},
			}},
			[]Decision{Give{"op-2", "b", noon.Add(life)}},
			"budget spent: type web, 1 of 1 out (b is next)",
		},
		{
			"every budget must have room",
			View{
				Budgets:  []Budget{{"type", 5}, {"label:rack", 1}},
				Requests: []Request{{Operation: "op-1", Host: "a", Groups: Groups{"type": "web", "label:rack": "r1"}}},
				Out:      []Out{{"c", Groups{"type": "db", "label:rack": "r1"}, "is in trial"}},
			},
			nil, "budget spent: rack r1, 1 of 1 out (c is in trial)",
		},
		{
			"hosts without the label share a group",
			View{
				Budgets:  []Budget{{"label:rack", 1}},
				Requests: []Request{{Operation: "op-1", Host: "a", Groups: web}},
				Out:      []Out{{"c", Groups{"type": "db"}, "is in trial"}},
			},
			nil, "budget spent: rack (none), 1 of 1 out (c is in trial)",
		},
		{
			"stopped",
			View{
				Stopped: "by ada: fire", Budgets: byType, Requests: []Request{{Operation: "op-1", Host: "a", Groups: web}},
				Grants: []Grant{{ID: "g-1", Operation: "op-9", Host: "z", ExpiresAt: noon}},
			},
			nil, "everything is stopped: by ada: fire",
		},
		{
			"unfit",
			View{Budgets: byType, Requests: []Request{{Operation: "op-1", Host: "a", Groups: web, Unfit: "the host is silent"}}},
			nil, "the host is silent",
		},
		{
			"a host that is out already is not granted",
			View{
				Budgets: []Budget{{"type", 2}}, Requests: []Request{{Operation: "op-1", Host: "a", Groups: web}},
				Out: []Out{{"a", web, "is not in service"}},
			},
			nil, "the host is out of service already: it is not in service",
		},
		{
			"one that ran out is not renewed",
			View{
				Budgets: byType, Requests: []Request{{Operation: "op-1", Host: "a", Groups: web}},
				Out:    []Out{{"a", web, "is draining"}},
				Grants: []Grant{{ID: "g-1", Operation: "op-1", Host: "a", ExpiresAt: noon}},
			},
			nil, "",
		},
		{
			"one that ran out unused is over, and the next is given in its place",
			View{
				Budgets: byType, Requests: []Request{{Operation: "op-1", Host: "a", Groups: web}},
				Grants: []Grant{{ID: "g-1", Operation: "op-1", Host: "a", ExpiresAt: noon, Over: "ran out"}},
			},
			[]Decision{End{"g-1", "a", "ran out"}, Give{"op-1", "a", noon.Add(life)}},
			"",
		},
		{
			"a wanted grant is renewed at half its life, a used or unwanted one is not, one that is over ends",
			View{
				Budgets: byType, Requests: []Request{{Operation: "op-1", Host: "a", Groups: web}},
				Out: []Out{{"a", web, "holds a grant"}},
				Grants: []Grant{
					{ID: "g-1", Operation: "op-1", Host: "a", ExpiresAt: noon.Add(life / 2)},
					{ID: "g-2", Operation: "op-2", Host: "b", ExpiresAt: noon, Used: true},
					{ID: "g-3", Operation: "op-3", Host: "c", ExpiresAt: noon},
					{ID: "g-4", Operation: "op-4", Host: "d", ExpiresAt: noon, Over: "in service again"},
				},
			},
			[]Decision{Renew{"g-1", noon.Add(life)}, End{"g-4", "d", "in service again"}},
			"",
		},
		{
			"stopped: a grant that is still wanted is not renewed",
			View{
				Stopped: "by ada: fire", Budgets: byType, Requests: []Request{{Operation: "op-1", Host: "a", Groups: web}},
				Grants: []Grant{{ID: "g-1", Operation: "op-1", Host: "a", ExpiresAt: noon.Add(life / 2)}},
			},
			nil, "",
		},
		{
			"an operation that holds a grant gets no second one, not even where nothing limits it",
			View{
				Requests: []Request{{Operation: "op-1", Host: "a", Groups: web}},
				Grants:   []Grant{{ID: "g-1", Operation: "op-1", Host: "a", ExpiresAt: noon.Add(life)}},
			},
			nil, "",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.v.Life = life
			got, _ := Step(c.v, noon)
			if d := cmp.Diff(c.want, got); d != "" {
				t.Errorf("decisions (-want +got):\n%s", d)
			}
			if why := Explain(c.v, "op-1"); why != c.why {
				t.Errorf("explain: got %q, want %q", why, c.why)
			}
		})
	}
}

// TestBudgetIsNeverExceeded gives random fleets random budgets, and carries out what Step decides over many rounds
// in which hosts come and go. No group may ever get another host out because of a grant once its limit is reached.
func TestBudgetIsNeverExceeded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		budgets := []Budget{{"type", rapid.IntRange(1, 3).Draw(t, "per type")}}
		if rapid.Bool().Draw(t, "racks") {
			budgets = append(budgets, Budget{"label:rack", rapid.IntRange(1, 3).Draw(t, "per rack")})
		}
		n := rapid.IntRange(1, 12).Draw(t, "hosts")
		groups := make([]Groups, n)
		for i := range groups {
			groups[i] = Groups{
				"type":       rapid.SampledFrom([]string{"web", "db"}).Draw(t, "type"),
				"label:rack": rapid.SampledFrom([]string{"r1", "r2", ""}).Draw(t, "rack"),
			}
		}
		down := make([]bool, n) // out for reasons of its own
		grants := map[int]Grant{}
		now, next := noon, 0
		id := func(i int) fleet.HostID { return fleet.HostID(fmt.Sprintf("h%02d", i)) }
		view := func() View {
			v := View{Life: life, Budgets: budgets}
			if rapid.IntRange(0, 9).Draw(t, "stop") == 0 {
				v.Stopped = "fire"
			}
			for i := range n {
				if down[i] {
					v.Out = append(v.Out, Out{id(i), groups[i], "is down"})
				}
				if g, ok := grants[i]; ok {
					v.Out = append(v.Out, Out{id(i), groups[i], "holds a grant"})
					if !down[i] && rapid.IntRange(0, 3).Draw(t, "over") == 0 {
						g.Over = "in service again"
					}
					v.Grants = append(v.Grants, g)
				}
				if rapid.Bool().Draw(t, "asks") {
					r := Request{Operation: fleet.OperationID("op-" + string(id(i))), Host: id(i), Groups: groups[i]}
					if down[i] {
						r.Unfit = "is down"
					}
					v.Requests = append(v.Requests, r)
				}
			}
			return v
		}
		for range rapid.IntRange(1, 30).Draw(t, "rounds") {
			v := view()
			ds, _ := Step(v, now)
			outBefore := count(v)
			given := map[string]int{}
			for _, d := range ds {
				switch d := d.(type) {
				case Give:
					if v.Stopped != "" {
						t.Fatalf("gave %v while stopped", d)
					}
					i := 0
					for id(i) != d.Host {
						i++
					}
					if _, has := grants[i]; has {
						t.Fatalf("two grants for %s", d.Host)
					}
					if down[i] {
						t.Fatalf("granted a host that is down: %s", d.Host)
					}
					if why := Explain(v, d.Operation); why != "" {
						t.Fatalf("gave %v, but explains: %s", d, why)
					}
					next++
					grants[i] = Grant{ID: fleet.GrantID(fmt.Sprint("g-", next)), Operation: d.Operation, Host: d.Host, ExpiresAt: d.ExpiresAt}
					for _, b := range budgets {
						given[b.By+"="+groups[i][b.By]]++
					}
				case End:
					for i, g := range grants {
						if g.ID == d.Grant {
							delete(grants, i)
						}
					}
				}
			}
			for _, b := range budgets {
				for k, more := range given {
					if strings.HasPrefix(k, b.By+"=") && outBefore[k]+more > b.Limit {
						t.Fatalf("%s: %d were out, %d more were granted, the limit is %d", k, outBefore[k], more, b.Limit)
					}
				}
			}
			for i := range n {
				down[i] = rapid.IntRange(0, 5).Draw(t, "down") == 0
			}
			now = now.Add(time.Duration(rapid.IntRange(0, 40).Draw(t, "sec")) * time.Second)
		}
	})
}

// count is the slow twin of use: hosts out per group.
func count(v View) map[string]int {
	seen := map[string]bool{}
	n := map[string]int{}
	for _, o := range v.Out {
		for _, b := range v.Budgets {
			k := b.By + "=" + o.Groups[b.By]
			if !seen[k+string(o.Host)] {
				seen[k+string(o.Host)] = true
				n[k]++
			}
		}
	}
	return n
}
