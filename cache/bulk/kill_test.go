package bulk

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/kernwave/kernwave/cache/cachetest"
)

var many = flag.Int("bulk.keys", 2000, "how many keys TestKilledAndResumed works on; make bench-cache has 1,000,000")

var (
	planID = regexp.MustCompile(`"id":"(p-[0-9a-f]+)"`)
	workID = regexp.MustCompile(`"id":"(b-[0-9a-f]+)"`)
	resume = regexp.MustCompile(`CACHE\.BULK RESUME b-[0-9a-f]+`)
	keysIn = regexp.MustCompile(`"keys":(\d+)`)
)

// long is how long a gateway may take for an answer: a dry run over a million keys on a busy machine takes minutes.
const long = 30 * time.Minute

// digest is what the server itself says of all its keys and values.
func (p place) digest() string {
	var out []string
	for _, s := range p.servers {
		out = append(out, s.Must("DEBUG", "DIGEST").Str)
	}
	return strings.Join(out, " ")
}

// ended sends a call that carries something out, kills the gateway a few times at random instants, lets the next one
// resume, and returns what the last one says.
func ended(t *testing.T, rnd *rand.Rand, dir, at, call string, takes time.Duration, alive func(killed int)) (answer string, kills int) {
	t.Helper()
	g := cachetest.StartGateway(t, dir, at)
	defer func() { g.Kill() }()
	begin := func() { // plans do not outlive a gateway
		t.Helper()
		dry := g.Ask("ada "+call+" DRYRUN", long)
		m := planID.FindStringSubmatch(dry)
		if m == nil {
			t.Fatalf("%s DRYRUN: %s", call, dry)
		}
		if got := g.Ask("bob CACHE.APPROVE "+m[1], long); got != `"OK"` {
			t.Fatalf("the approval: %s", got)
		}
		t.Logf("%s: the dry run counts %s keys", call, keysIn.FindStringSubmatch(dry)[1])
		g.Send("ada " + call + " APPROVAL " + m[1])
	}
	had := len(workID.FindAllStringSubmatch(g.Ask("ada CACHE.BULK LIST", long), -1))
	begin()
	for {
		select {
		case answer, ok := <-g.Lines:
			if !ok {
				t.Fatal("the gateway ended by itself")
			}
			if !stopped(t, g, answer) {
				return answer, kills
			}
			continue
		case <-time.After(time.Duration(rnd.Int64N(int64(takes)))):
		}
		if kills == 4 {
			for answer = g.Hear(long); stopped(t, g, answer); answer = g.Hear(long) {
			}
			return answer, kills
		}
		kills++
		g.Kill()
		alive(kills)
		g = cachetest.StartGateway(t, dir, at)
		list := g.Ask("ada CACHE.BULK LIST", long)
		ids := workID.FindAllStringSubmatch(list, -1)
		if len(ids) == had { // killed before it began
			begin()
			continue
		}
		id := ids[len(ids)-1][1] // the newest is last
		switch {
		case strings.Contains(list, `"id":"`+id+`","state":"interrupted"`):
			g.Send("ada CACHE.BULK RESUME " + id)
		case strings.Contains(list, `"id":"`+id+`","state":"done"`): // killed before it said so
			return fmt.Sprintf(`{"id":"%s","state":"done"}`, id), kills
		default:
			t.Fatalf("after a kill: %s", list)
		}
	}
}

// stopped says whether a guard stopped the work, as it should on a busy machine, and lets it go on.
func stopped(t *testing.T, g *cachetest.Gateway, answer string) bool {
	t.Helper()
	m := resume.FindString(answer)
	if !strings.HasPrefix(answer, "GUARD ") || m == "" {
		return false
	}
	t.Logf("stopped, and resumed: %s", answer)
	g.Send("ada " + m)
	return true
}

// TestKilledAndResumed: a gateway that is a process is killed with SIGKILL at random instants while it unlinks, expires and
// undoes. In the end everything that matches is changed and nothing else ever was, and the undo brings back the same bytes.
func TestKilledAndResumed(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	all := cachetest.Two(t)
	p := cluster(t, all[len(all)-1])
	n := *many
	p.fill("other:", n/4)
	outside := p.digest()
	began := time.Now()
	keys := p.fill("old:", n)
	t.Logf("%d keys made in %s", n, time.Since(began).Round(time.Second))
	whole := p.digest()
	var some []string // whose instants are compared as well
	for i := 0; i < n; i += max(1, n/500) {
		some = append(some, keys[i])
	}
	before := p.look(some)
	dir, at := t.TempDir(), cachetest.Addrs(p.servers...)
	rate := max(500, n/12) // on each of three nodes: about four seconds of work
	takes := time.Duration(n/3) * time.Second / time.Duration(rate) / 3
	kills := 0
	for _, call := range []string{
		fmt.Sprintf("CACHE.UNLINK MATCH old:* CAPTURE 4gb SLACK 50 RATE %d", rate),
		fmt.Sprintf("CACHE.EXPIRE MATCH old:* TTL 9000 JITTER 30 SLACK 50 RATE %d", rate),
	} {
		unlinks := strings.HasPrefix(call, "CACHE.UNLINK")
		began := time.Now()
		said, k := ended(t, rnd, dir, at, call, takes, func(int) {})
		kills += k
		t.Logf("%d kills, %s: %s", k, time.Since(began).Round(time.Second), said)
		if !strings.Contains(said, `"state":"done"`) {
			t.Fatalf("%s: %s", call, said)
		}
		if unlinks && p.digest() != outside {
			t.Fatal("what does not match is not what it was, or something that matches is left")
		}
		if !unlinks {
			for k, w := range p.look(some) {
				if left := time.Until(time.UnixMilli(w.until)); w.until == before[k].until || left < 6000*time.Second-time.Since(began) || left > 11701*time.Second {
					t.Fatalf("%s expires in %s", k, left)
				}
			}
		}
		work := workID.FindStringSubmatch(said)[1]
		said, k = ended(t, rnd, dir, at, fmt.Sprintf("CACHE.UNDO %s SLACK 50 RATE %d", work, rate), takes, func(int) {})
		kills += k
		t.Logf("%d kills: %s", k, said)
		if got := p.digest(); got != whole {
			t.Fatalf("undone, and the servers hold something else: %s, want %s", got, whole)
		}
		diff(t, "undone", p.look(some), before)
	}
	if kills == 0 {
		t.Error("nothing was killed")
	}
}
