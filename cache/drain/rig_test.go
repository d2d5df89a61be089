package drain

import (
	"context"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kernwave/kernwave/cache"
	"github.com/kernwave/kernwave/cache/cachetest"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestMain: this program is also a gateway that a test can kill; its arguments are the journal, the servers, and before which step
// it is to kill itself, by its name or its number; 0: before none. Tests have a network of their own.
func TestMain(m *testing.M) {
	cachetest.MainApart(m, func(args []string) error {
		r, err := open(args[0], args[1])
		if err != nil {
			return err
		}
		left, _ := strconv.Atoi(args[2])
		r.k.step = func(step string) {
			if left--; left == 0 || step == args[2] {
				_ = syscall.Kill(syscall.Getpid(), syscall.SIGKILL)
				select {}
			}
		}
		go r.k.Run(context.Background())
		return r.Serve()
	})
}

// rig is a gateway over real servers.
type rig struct {
	*cachetest.Rig
	k *Keeper
}

func open(path, addrs string) (*rig, error) {
	r, err := cachetest.OpenRig(addrs, 5*time.Second, cache.Admin)
	if err != nil {
		return nil, err
	}
	k, err := Open(path, r.Fleet, r.Approvals, r.Log, nil)
	if err != nil {
		return nil, err
	}
	return &rig{r, k}, r.Put(Commands(k))
}

// newRig is open for as long as a test lasts. seeds are addresses joined by commas.
func newRig(t testing.TB, seeds string) *rig {
	t.Helper()
	r, err := open(filepath.Join(t.TempDir(), "j"), seeds)
	must(t, err)
	t.Cleanup(r.close)
	return r
}

func (r *rig) close() { r.Close(r.k.Close) }

func (r *rig) do(user, line string) (cache.Value, error) {
	return r.Call(context.Background(), user, line)
}

// drain is CACHE.DRAIN from its dry run to its end.
func (r *rig) drain(what string) (cache.Value, error) {
	v, err := r.do("ada", "CACHE.DRAIN "+what+" DRYRUN")
	if err != nil {
		return v, err
	}
	id := v.Get("approval").Str
	if v, err = r.do("bob", "CACHE.APPROVE "+id); err != nil {
		return v, err
	}
	if v, err = r.do("ada", "CACHE.DRAIN "+what+" APPROVAL "+id); err == nil || !strings.Contains(err.Error(), "it is looked at until it has") {
		return v, err
	}
	// The call gave up waiting: a Sentinel that hardly gets a turn on its machine does nothing for half a minute (TILT). Run would go on.
	var d *Drain
	for _, x := range r.k.drains {
		if x.State == Draining {
			d = x
		}
	}
	for end := time.Now().Add(cachetest.Patience); d != nil && d.State == Draining && time.Now().Before(end); {
		r.k.reconcile(context.Background(), d)
	}
	if d == nil || d.State != Drained {
		return v, err
	}
	return d.value(), nil
}

// approved makes a dry run in a gateway that is a process, has it approved, and returns the call that carries it out.
func approved(t testing.TB, g *cachetest.Gateway, what string) string {
	t.Helper()
	dry, end := "", time.Now().Add(cachetest.Patience)
	for dry == "" || strings.HasPrefix(dry, cache.CodeUnreachable+" ") && time.Now().Before(end) { // a busy machine
		dry = g.Ask("ada CACHE.DRAIN "+what+" DRYRUN", cachetest.Patience)
	}
	m := approvalID.FindStringSubmatch(dry)
	if m == nil {
		t.Fatalf("the dry run: %s", dry)
	}
	if got := g.Ask("bob CACHE.APPROVE "+m[1], cachetest.Patience); got != `"OK"` {
		t.Fatal(got)
	}
	return "ada CACHE.DRAIN " + what + " APPROVAL " + m[1]
}

var approvalID = regexp.MustCompile(`"approval":"(p-[0-9a-f]+)"`)
