package drain

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kernwave/kernwave/cache/cachetest"
)

var (
	runs         = flag.Int("drain.runs", 4, "how many randomised runs with faults TestFaults plays in a cluster, and half as many under Sentinel and of a plain pair, but at most 20; make bench-cache plays 100")
	oldest       = flag.Bool("drain.oldest", false, "TestFaults on the oldest Redis instead of the newest Valkey")
	sentinelRuns = flag.Int("drain.sentinel", 0, "TestFaults plays so many runs under Sentinel, and no others")
	only         = flag.String("drain.fault", "", "TestFaults has only faults that match this expression, such as packets")
)

// kinds of faults. Replication is refused by the servers' ACLs, which both notice at once; lost packets vanish on the network between the
// machines of primary and replica, and nobody is told.
var kinds = []string{
	"none", "replica killed", "replication refused", "packets lost", "gateway killed",
	"gateway killed and replica killed", "gateway killed and replication refused", "gateway killed and packets lost",
}

// steps are how many a hand-over has between which the gateway may be killed.
var steps = map[string]int{"cluster": 4, "sentinel": 9, "sentinel of three": 10, "standalone": 8}

// play drains a with a fault, heals it, and looks how it ended.
func (s *shard) play(t testing.TB, rnd *rand.Rand, run int, fault string) (state string) {
	s.ready(t)
	path := filepath.Join(t.TempDir(), fmt.Sprintf("j%d", run))
	die := 0
	if strings.Contains(fault, "gateway") {
		die = 1 + rnd.IntN(steps[s.mode])
	}
	g := cachetest.StartGateway(t, path, s.seeds, strconv.Itoa(die))
	defer func() { g.Kill() }()
	w := s.write(run)
	defer w.stop()
	call := approved(t, g, s.a.Addr())
	time.Sleep(time.Duration(rnd.IntN(100)) * time.Millisecond)
	hurt := time.Duration(rnd.IntN(3000)) * time.Millisecond
	if s.cluster != nil && !s.a.Version.Valkey {
		hurt /= 4 // shorter than the node timeout, or the cluster itself fails over from a replica that has taken over, and loses writes
	} else if strings.Contains(fault, "packets lost") && rnd.IntN(4) == 0 {
		hurt += catchUpWithin // longer than an attempt, and shorter than anyone takes a server for dead
	}
	early := strings.Contains(fault, "packets lost") && rnd.IntN(2) == 0 // the link still counts as up when the hand-over begins
	if early {
		s.lose(t)
		time.Sleep(time.Duration(rnd.IntN(100)) * time.Millisecond)
	}
	g.Send(call)
	time.Sleep(time.Duration(rnd.IntN(150)) * time.Millisecond)
	switch {
	case strings.Contains(fault, "replica killed"):
		s.b.Kill()
		time.Sleep(hurt)
		s.b.Restart()
	case strings.Contains(fault, "other killed"):
		s.c.Kill()
		time.Sleep(hurt)
		s.c.Restart()
	case strings.Contains(fault, "replication refused"):
		s.refuse()
		time.Sleep(hurt)
		s.allow()
	case strings.Contains(fault, "packets lost"):
		if !early {
			s.lose(t)
		}
		time.Sleep(hurt)
		must(t, cachetest.Heal())
	}
	said := g.Hear(90 * time.Second)
	again := func() {
		g.Kill()
		g = cachetest.StartGateway(t, path, s.seeds, "0")
	}
	if die > 0 && said == "gone" {
		if rnd.IntN(2) == 0 {
			time.Sleep(time.Duration(rnd.IntN(2000)) * time.Millisecond)
		}
		again()
	}
	end := time.Now().Add(4 * time.Minute) // a Sentinel that hardly gets a turn on its machine does nothing for half a minute (TILT), again and again
	for {
		list := g.Ask("ada CACHE.DRAINS", cachetest.Patience)
		switch {
		case strings.Contains(list, `"state":"drained"`):
			state = Drained
		case strings.Contains(list, `"state":"unchanged"`), list == `{"rows":[]}`: // killed before anything was written down
			state = Unchanged
		case list == "gone" && die > 0: // it came to its step after it had answered
			again()
		case time.Now().After(end):
			t.Fatalf("run %d (%s, step %d): it does not end: %s; a %s with its link %s, b %s with its link %s", run, fault, die, list,
				s.a.Info("role"), s.a.Info("master_link_status"), s.b.Info("role"), s.b.Info("master_link_status"))
		default:
			time.Sleep(200 * time.Millisecond)
			continue
		}
		break
	}
	now, others := s.a, []*cachetest.Server{s.b}
	if state == Drained {
		now, others[0] = s.b, s.a
	}
	if s.c != nil {
		others = append(others, s.c)
	}
	wrong := func() bool { return !primary(now) || slices.ContainsFunc(others, primary) }
	end = time.Now().Add(20 * time.Second) // a node of a cluster says that it is a primary for a moment after its start
	for wrong() && time.Now().Before(end) {
		time.Sleep(20 * time.Millisecond)
	}
	if wrong() {
		t.Fatalf("run %d (%s, step %d): it is %s, and a is %s, b is %s; %s", run, fault, die, state, s.a.Info("role"), s.b.Info("role"), said)
	}
	if s.c != nil {
		for x, priority := range s.priorities() {
			cachetest.Eventually(t, fmt.Sprintf("run %d (%s, step %d): %s has its replica-priority again", run, fault, die, x.Addr()), func() bool {
				v, err := x.Do("CONFIG", "GET", "replica-priority")
				return err == nil && len(v.Items) == 2 && v.Items[1].Str == priority
			})
		}
	}
	time.Sleep(300 * time.Millisecond) // and it stays so, with customers writing
	acked, lost, by := w.end(now)
	if lost > 0 || acked < 10 {
		t.Errorf("run %d (%s, step %d): %s, and of %d acknowledged writes %d are lost: %v", run, fault, die, state, acked, lost, by)
	}
	return state
}

func faults(t *testing.T, mode string, n int, v cachetest.Version) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d, %s", seed, v.Name)
	rnd := rand.New(rand.NewPCG(seed, 0))
	kinds := kinds
	if mode == "sentinel of three" {
		kinds = append(kinds[:len(kinds):len(kinds)], "other killed", "gateway killed and other killed")
	}
	wanted, err := regexp.Compile(*only)
	must(t, err)
	play, lost := []string{}, []string{}
	for _, k := range kinds {
		if packets := strings.Contains(k, "packets lost"); packets && cachetest.NoCut() != "" || !wanted.MatchString(k) {
			continue
		} else if packets {
			lost = append(lost, k)
		}
		play = append(play, k)
	}
	if why := cachetest.NoCut(); why == "" {
		defer func() { must(t, cachetest.Heal()) }()
	} else {
		t.Logf("not shown: that nothing is lost when packets between primary and replica vanish, which needs network namespaces and nft (apt-get install nftables): %s", why)
	}
	if len(play) == 0 {
		t.Skip("skipped: no fault that can be had here matches -drain.fault")
	}
	s := newShard(t, mode, v)
	count := map[string]int{}
	for run := range n {
		fault := play[rnd.IntN(len(play))]
		if run == 0 && len(lost) > 0 { // a few runs have it as well
			fault = lost[rnd.IntN(len(lost))]
		}
		count[fault+": "+s.play(t, rnd, run, fault)]++
		if testing.Verbose() && n > 20 && run%10 == 9 {
			t.Logf("%d runs: %v", run+1, count)
		}
	}
	t.Logf("%d runs: %v", n, count)
}

// TestFaults drains the primary of a shard while customers write, with the replica killed, replication refused, packets between the two lost, or
// the gateway killed before a random step. Every run ends as drained or unchanged, and no acknowledged write is lost.
func TestFaults(t *testing.T) {
	all := cachetest.Two(t)
	v := all[len(all)-1]
	if *oldest {
		v = all[0]
	}
	few := min(20, max(1, *runs/2))
	if *sentinelRuns > 0 {
		t.Run("sentinel", func(t *testing.T) { faults(t, "sentinel", *sentinelRuns, v) })
		t.Run("sentinel of three", func(t *testing.T) { faults(t, "sentinel of three", *sentinelRuns, v) })
		return
	}
	t.Run("cluster", func(t *testing.T) { faults(t, "cluster", *runs, v) })
	t.Run("sentinel", func(t *testing.T) { faults(t, "sentinel", few, v) })
	t.Run("sentinel of three", func(t *testing.T) { faults(t, "sentinel of three", few, v) })
	t.Run("plain pair", func(t *testing.T) { faults(t, "standalone", few, v) })
}

// TestPacketsVanish: what TestFaults calls lost packets. The link counts as up, and nothing arrives; healed, everything does.
func TestPacketsVanish(t *testing.T) {
	if why := cachetest.NoCut(); why != "" {
		t.Skip("skipped: packets cannot be made to vanish here (apt-get install nftables): " + why)
	}
	p := cachetest.StartPair(t, cachetest.Any(t), 1)
	s := shard{a: p.Primary, b: p.Replicas[0]}
	defer func() { must(t, cachetest.Heal()) }()
	s.lose(t)
	s.a.Must("SET", "k", "v")
	if n := s.a.Must("WAIT", "1", "500").Int; n != 0 {
		t.Error("the replica acknowledges a write while no packet reaches it")
	}
	if got := s.b.Must("GET", "k").Str; got != "" || s.b.Info("master_link_status") != "up" {
		t.Errorf("the replica has %q, and its link is %s: the cut is noticed, or none", got, s.b.Info("master_link_status"))
	}
	must(t, cachetest.Heal())
	if n := s.a.Must("WAIT", "1", "60000").Int; n != 1 {
		t.Error("the write does not arrive when packets pass again")
	}
}
