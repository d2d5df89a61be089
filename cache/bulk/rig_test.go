package bulk

import (
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

// TestMain: this program is also a gateway that a test can kill; its arguments are the folder and the servers.
func TestMain(m *testing.M) {
	cachetest.Main(m, func(args []string) error {
		r, err := open(args[0], args[1])
		if err != nil {
			return err
		}
		return r.Serve()
	})
}

// rig is a gateway over real servers.
type rig struct {
	*cachetest.Rig
	m *Manager
}

func open(dir, addrs string) (*rig, error) {
	r, err := cachetest.OpenRig(addrs, 20*time.Second, cache.Operator)
	if err != nil {
		return nil, err
	}
	m, err := Open(dir, r.Fleet, r.Approvals, r.Log, nil)
	if err != nil {
		return nil, err
	}
	return &rig{r, m}, r.Put(Commands(m))
}

func newRig(t testing.TB, ss ...*cachetest.Server) *rig {
	t.Helper()
	r, err := open(t.TempDir(), cachetest.Addrs(ss...))
	must(t, err)
	t.Cleanup(func() { r.Close(r.m.Close) })
	return r
}

// approved makes a dry run of a call as ada, lets bob approve it, and returns the id and the count.
func (r *rig) approved(t testing.TB, line string) (id string, keys int64) {
	t.Helper()
	v := r.OK(t, "ada", line+" DRYRUN")
	id = v.Get("plan").Get("id").Str
	r.OK(t, "bob", "CACHE.APPROVE "+id)
	return id, v.Get("keys").Int
}

// carried is a call from its dry run to its end.
func (r *rig) carried(t testing.TB, line string) cache.Value {
	t.Helper()
	id, _ := r.approved(t, line)
	return r.OK(t, "ada", line+" APPROVAL "+id)
}
