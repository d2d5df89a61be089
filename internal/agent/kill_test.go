package agent_test

import (
	"fmt"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/agent/agenttest"
	"github.com/kernwave/kernwave/internal/agent/disk"
)

// TestKillAtEveryWrite ends the agent, or the machine's power, at each change of its disk in the course of a whole
// update, one after another, before the change and torn in the middle of it. However it was interrupted, the host
// ends truthfully, in service, with all promises kept; and an agent that is only restarted loses nothing.
func TestKillAtEveryWrite(t *testing.T) {
	for _, how := range []string{"agent", "power"} {
		for _, tear := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/torn=%v", how, tear), func(t *testing.T) {
				total := killAt(t, -1, how, tear)
				if total < 20 {
					t.Fatalf("a whole update changes the disk %d times only: this test looks at nothing", total)
				}
				for n := range total {
					killAt(t, n, how, tear)
				}
			})
		}
	}
}

// killAt runs an update that is interrupted at the n-th change, and returns how many there were.
func killAt(t *testing.T, n int, how string, tear bool) (total int) {
	t.Helper()
	dir, err := os.MkdirTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, dir)
		w.disk = &counting{FS: disk.OS{}, at: n, tear: tear, count: &total, kill: func() {
			if how == "power" {
				w.host.PowerCut()
			} else {
				w.host.KillAgent()
			}
		}}
		w.start()
		w.set(func(w *world) { w.want = update("op-1") })
		r := w.untilEnd(2 * time.Hour)
		if n >= 0 && total <= n {
			t.Errorf("the change %d never came", n)
		}
		p := r.Operation.Phase
		w.until("in service", soonEnough, func(r fleet.Report) bool { return r.Now.InService })
		m := w.host.Look()
		switch {
		case p == fleet.PhaseCommitted && r.Now.Release == newRelease && m.Default == newRelease:
		case p != fleet.PhaseCommitted && how == "agent":
			t.Errorf("change %d: restarting the agent ended the update: %s, %+v", n, p, r.Operation.Problem)
		case p != fleet.PhaseCommitted && r.Now.Release == oldRelease && m.Default == oldRelease && r.Operation.Problem != nil:
		default:
			t.Errorf("change %d: ended %s on %s, default %s, problem %+v", n, p, r.Now.Release, m.Default, r.Operation.Problem)
		}
		if m.OneShot != nil {
			t.Errorf("change %d: a trial is still armed", n)
		}
		w.end()
	})
	return total
}

// counting kills at one change of the disk. Torn, half of a write gets through before.
type counting struct {
	disk.FS
	at    int
	tear  bool
	count *int
	kill  func()
}

func (c *counting) hit() bool {
	n := *c.count
	*c.count++
	if n == c.at {
		c.kill()
		return true
	}
	return false
}

var errKilled = fmt.Errorf("killed here")

func (c *counting) OpenAppend(name string) (disk.File, error) {
	if c.hit() {
		return nil, errKilled
	}
	f, err := c.FS.OpenAppend(name)
	return countingFile{f, c}, err
}

func (c *counting) Create(name string, mode os.FileMode) (disk.File, error) {
	if c.hit() {
		return nil, errKilled
	}
	f, err := c.FS.Create(name, mode)
	return countingFile{f, c}, err
}

func (c *counting) Rename(from, to string) error {
	if c.hit() {
		return errKilled
	}
	return c.FS.Rename(from, to)
}

func (c *counting) SyncDir(dir string) error {
	if c.hit() {
		return errKilled
	}
	return c.FS.SyncDir(dir)
}

type countingFile struct {
	disk.File
	c *counting
}

func (f countingFile) Write(p []byte) (int, error) {
	if f.c.hit() {
		if f.c.tear {
			n, _ := f.File.Write(p[:len(p)/2])
			return n, errKilled
		}
		return 0, errKilled
	}
	return f.File.Write(p)
}

func (f countingFile) Sync() error {
	if f.c.hit() {
		return errKilled
	}
	return f.File.Sync()
}

// TestFullDisk: nothing dangerous is begun while the journal cannot be written, and a host that is out returns.
func TestFullDisk(t *testing.T) {
	for _, phase := range []fleet.Phase{"", fleet.PhasePreparing, fleet.PhaseDraining, fleet.PhasePassed} {
		t.Run("from "+string(phase), func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, dir)
				w.auto = false
				full := false
				w.disk = agenttest.Guard(disk.OS{}, func(op, name string) error {
					w.mu.Lock()
					defer w.mu.Unlock()
					if full {
						return fmt.Errorf("%s %s: no space left on device", op, name)
					}
					return nil
				})
				w.apps.Takes("drain", 10*time.Second)
				w.start()
				w.until("in service", time.Minute, func(r fleet.Report) bool { return r.Now.InService })
				if phase != "" {
					w.set(func(w *world) { w.want = update("op-1") })
					w.untilPhase(phase, soonEnough)
				}
				w.set(func(w *world) { full = true; w.want = update("op-1") })
				time.Sleep(time.Hour)
				m := w.host.Look()
				if phase == "" {
					if r := w.last(); r.Operation == nil || r.Operation.Phase != fleet.PhaseRefused || len(m.Boots) != 1 {
						t.Errorf("got %+v", r.Operation)
					}
				}
				if want := map[bool]int{true: 2, false: 1}[phase == fleet.PhasePassed]; len(m.Boots) != want {
					t.Errorf("%d boots", len(m.Boots))
				}
				w.set(func(w *world) { full = false; w.auto = true })
				if phase != "" {
					w.until("ended or on its way", soonEnough, func(r fleet.Report) bool { return r.Operation != nil && r.Operation.Phase.Ended() && r.Now.InService })
				}
				w.end()
			})
		})
	}
}
