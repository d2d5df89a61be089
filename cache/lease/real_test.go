package lease

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kernwave/kernwave/cache"
	"github.com/kernwave/kernwave/cache/cachetest"
	"github.com/kernwave/kernwave/cache/upstream"
)

// TestMain: this program is also a gateway that a test can kill; its arguments are the journal, and the servers.
func TestMain(m *testing.M) {
	cachetest.Main(m, func(args []string) error { return gatewayMain(args[0], args[1]) })
}

func fleet(addrs string) (*upstream.Fleet, error) {
	none := ""
	return upstream.Open(upstream.Config{Name: "main", Seeds: strings.Split(addrs, ","), WriteUser: &none, WritePassword: &none})
}

// gatewayMain says "up", and for each line "PARAM VALUE MILLISECONDS" makes the change and says "held ID" or "error …".
func gatewayMain(path, addrs string) error {
	f, err := fleet(addrs)
	if err != nil {
		return err
	}
	k, err := Open(path, FleetNodes(f), &cache.MemLog{}, Clock{})
	if err != nil {
		return err
	}
	go k.Run(context.Background())
	fmt.Println("up")
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		if in.Text() == "list" {
			for _, l := range k.List() {
				for _, p := range l.Parts {
					fmt.Println("part", p.Addr, p.State, l.Open(), p.Found, p.Err)
				}
			}
			fmt.Println("end")
			continue
		}
		var l Lease
		var ms int
		if _, err := fmt.Sscan(in.Text(), &l.Param, &l.Value, &ms); err != nil {
			return err
		}
		l.By, l.Reason, l.Deadline = "ada", "test", Clock{}.In(time.Duration(ms)*time.Millisecond)
		for _, a := range strings.Split(addrs, ",") {
			l.Parts = append(l.Parts, Part{Cluster: "main", Addr: a})
		}
		if l, err = k.Take(context.Background(), l); err != nil {
			fmt.Println("error", err)
		} else {
			fmt.Println("held", l.ID)
		}
	}
	return in.Err()
}

var schedules = flag.Int("lease.schedules", 8, "how many random schedules TestRealSchedules plays; make bench-cache plays 1,000")

// TestRealSchedules: a change for one second on a real primary and its replica, and a gateway that is a process and is
// killed with SIGKILL at a random instant, while servers are restarted, roles move, or someone else changes the setting.
// Once a gateway is there again, everything is taken back within the rest of that second and one more, or is a conflict
// that is reported.
func TestRealSchedules(t *testing.T) {
	v := cachetest.Any(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	work := make(chan int)
	var mu sync.Mutex
	var late []time.Duration
	counts := map[string]int{}
	var wg sync.WaitGroup
	for w := range min(4, *schedules) {
		pair := [2]*cachetest.Server{cachetest.Start(t, v), cachetest.Start(t, v)}
		wg.Go(func() {
			for i := range work {
				rnd := rand.New(rand.NewPCG(seed, uint64(i)))
				name, d, err := schedule(t, rnd, pair, filepath.Join(t.TempDir(), fmt.Sprintf("j%d-%d", w, i)))
				mu.Lock()
				counts[name]++
				late = append(late, d)
				mu.Unlock()
				if err != nil {
					t.Errorf("schedule %d (%s): %v", i, name, err)
				}
			}
		})
	}
	for i := range *schedules {
		work <- i
	}
	close(work)
	wg.Wait()
	over := 0
	var most time.Duration
	for _, d := range late {
		most = max(most, d)
		if d > time.Second {
			over++
		}
	}
	t.Logf("%d schedules %v: taken back at most %v after it was due and a gateway there; %d later than 1 s", len(late), counts, most.Round(time.Millisecond), over)
}

// schedule plays one. late is how long after the deadline, or after the gateway was there again, the last node was as it
// should be.
func schedule(t *testing.T, rnd *rand.Rand, pair [2]*cachetest.Server, path string) (name string, late time.Duration, err error) {
	do := func(s *cachetest.Server, args ...string) cache.Value {
		for range 100 {
			v, err := s.Do(args...)
			if err == nil && v.Kind != cache.Err {
				return v
			}
			time.Sleep(20 * time.Millisecond)
		}
		t.Errorf("%s does not do %q", s.Addr(), args)
		return cache.Value{}
	}
	get := func(s *cachetest.Server) string {
		v := do(s, "CONFIG", "GET", "hz")
		if len(v.Items) != 2 {
			return ""
		}
		return v.Items[1].Str
	}
	host, port, _ := strings.Cut(pair[0].Addr(), ":")
	do(pair[0], "REPLICAOF", "NO", "ONE")
	do(pair[1], "REPLICAOF", host, port)
	old := map[*cachetest.Server]string{}
	for _, s := range pair {
		do(s, "CONFIG", "SET", "hz", "10")
		old[s] = "10"
	}
	addrs := pair[0].Addr() + "," + pair[1].Addr()
	g, err := cachetest.OpenGateway(path, addrs)
	if err != nil {
		return "start", 0, err
	}
	defer func() { g.Kill() }()
	const ttl = time.Second
	earliest := time.Now().Add(ttl) // the deadline is not before
	g.Send(fmt.Sprintf("hz 50 %d", ttl.Milliseconds()))
	held := false
	if rnd.IntN(3) > 0 { // else it may be killed while it makes the change
		held = strings.HasPrefix(g.Hear(20*time.Second), "held")
	}
	due := time.Now().Add(ttl) // not before the deadline that the gateway has
	name = []string{"nothing else", "restart of a server", "other change", "failover"}[rnd.IntN(4)]
	fault := pair[rnd.IntN(2)]
	kill, early := rnd.IntN(4) > 0, false // the other change came while the lease was held
	time.Sleep(time.Duration(rnd.Int64N(int64(600 * time.Millisecond))))
	if kill && rnd.IntN(2) == 0 {
		g.Kill()
	}
	want := map[*cachetest.Server]string{pair[0]: "10", pair[1]: "10"}
	switch name {
	case "restart of a server":
		fault.Kill()
		fault.Restart()
	case "other change":
		if held || kill { // before the change was made, it would be what is to be restored
			do(fault, "CONFIG", "SET", "hz", "77")
			want[fault] = "77"
			early = time.Now().Before(earliest)
		}
	case "failover":
		do(pair[1], "REPLICAOF", "NO", "ONE")
		h, p, _ := strings.Cut(pair[1].Addr(), ":")
		do(pair[0], "REPLICAOF", h, p)
	}
	if kill {
		time.Sleep(time.Duration(rnd.Int64N(int64(800 * time.Millisecond))))
		g.Kill()
		if rnd.IntN(3) == 0 { // for long: past the deadline
			time.Sleep(ttl)
		}
		next, err := cachetest.OpenGateway(path, addrs)
		if err != nil {
			return name, 0, err
		}
		g = next
		if time.Now().After(due) {
			due = time.Now()
		}
	}
	end := due.Add(20 * time.Second) // a busy machine; what it took is printed
	for {
		ok := true
		for _, s := range pair {
			ok = ok && get(s) == want[s]
		}
		if ok && !time.Now().Before(due) {
			break
		}
		if time.Now().After(end) {
			return name, 0, fmt.Errorf("%s is %s, want %s; %s is %s, want %s", pair[0].Addr(), get(pair[0]), want[pair[0]], pair[1].Addr(), get(pair[1]), want[pair[1]])
		}
		time.Sleep(10 * time.Millisecond)
	}
	late = max(0, time.Since(due))
	// And it stays so, and nothing is open any more; a conflict is reported where there was one.
	for range 150 {
		g.Send("list")
		open, conflict := false, false
		for {
			l := g.Hear(10 * time.Second)
			if !strings.HasPrefix(l, "part") {
				break
			}
			open = open || strings.Contains(l, " true ")
			conflict = conflict || strings.Contains(l, fault.Addr()+" "+Conflicted)
		}
		if !open {
			if early && held && !conflict {
				return name, late, fmt.Errorf("someone else's change was not reported")
			}
			for _, s := range pair {
				if get(s) != want[s] {
					return name, late, fmt.Errorf("%s became %s in the end", s.Addr(), get(s))
				}
			}
			return name, late, nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return name, late, fmt.Errorf("a lease stays open")
}
