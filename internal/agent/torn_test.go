package agent_test

import (
	"fmt"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/agent/agenttest"
	"github.com/kernwave/kernwave/internal/agent/disk"
)

// TestTornAtAnyByte cuts the power in the middle of each append to the journal, in its header and all over the rest.
// That it is all the same for the reader where, [TestJournalsCutAtEveryByte] shows at every byte.
func TestTornAtAnyByte(t *testing.T) {
	var sizes []int
	tornAt(t, -1, 0, &sizes)
	if len(sizes) < 8 {
		t.Fatalf("a whole update appends %d records only: this test looks at nothing", len(sizes))
	}
	for n, size := range sizes {
		step := 211
		if testing.Short() {
			step = 997
		}
		for b := 0; b <= size; b++ {
			if b < 12 && b%4 == n%4 || b == 12 || b == size-1 || b == size || b%step == 1 {
				tornAt(t, n, b, nil)
			}
		}
	}
}

// tornAt runs an update in which the n-th append ends after b bytes. sizes, if not nil, takes how long they all are.
func tornAt(t *testing.T, n, b int, sizes *[]int) {
	t.Helper()
	dir, err := os.MkdirTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, dir)
		count := 0
		w.disk = onAppend{disk.OS{}, func(f disk.File, p []byte) (int, error) {
			if sizes != nil {
				*sizes = append(*sizes, len(p))
			}
			count++
			if count-1 != n {
				return f.Write(p)
			}
			_, err := f.Write(p[:min(b, len(p))])
			w.host.PowerCut()
			return 0, fmt.Errorf("power cut, %w", err)
		}}
		w.want = update("op-1")
		w.start()
		if why := w.settles(); why != "" {
			t.Errorf("append %d torn after %d bytes: %s", n, b, why)
		}
		if r := w.last(); r.Now.Parked != "" {
			t.Errorf("append %d torn after %d bytes: parked: %s", n, b, r.Now.Parked)
		}
		w.end()
	})
}

// onAppend replaces the writes of journals.
type onAppend struct {
	disk.FS
	write func(disk.File, []byte) (int, error)
}

func (d onAppend) OpenAppend(name string) (disk.File, error) {
	f, err := d.FS.OpenAppend(name)
	return onAppendFile{f, d}, err
}

type onAppendFile struct {
	disk.File
	d onAppend
}

func (f onAppendFile) Write(p []byte) (int, error) { return f.d.write(f.File, p) }

// TestEachCallFails lets each change of the disk in an operation fail: once, with half of a write done; or that one and
// all that follow, for ten minutes, as on a disk that is full, or read-only, or broken. The host never takes a step into
// danger that it could not write down, and when the disk works again it comes to a truthful end, in service.
func TestEachCallFails(t *testing.T) {
	for _, s := range stories()[:3] { // good, panic, failed check
		for _, once := range []bool{true, false} {
			if s.name != "good" && testing.Short() {
				continue
			}
			t.Run(fmt.Sprintf("%s/once=%v", s.name, once), func(t *testing.T) {
				total := failAt(t, s, -1, nil)
				if total < 20 {
					t.Fatalf("a whole operation changes the disk %d times only: this test looks at nothing", total)
				}
				step := 1
				if s.name != "good" || testing.Short() {
					step = 3
				}
				for n := 0; n < total; n += step {
					why := []error{syscall.ENOSPC, syscall.EROFS, syscall.EIO}[n/step%3]
					if once {
						why = nil
					}
					failAt(t, s, n, why)
				}
			})
		}
	}
}

// failAt runs a story in which the n-th change fails, and says how many there were. why nil: only that one.
func failAt(t *testing.T, s story, n int, why error) (total int) {
	t.Helper()
	dir, err := os.MkdirTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, dir)
		w.want = update("op-1")
		s.set(w)
		if why == nil {
			w.disk = &counting{FS: disk.OS{}, at: n, tear: true, count: &total, kill: func() {}}
		} else {
			var until time.Time
			w.disk = agenttest.Guard(disk.OS{}, func(op, name string) error {
				w.mu.Lock()
				defer w.mu.Unlock()
				if total == n {
					until = time.Now().Add(10 * time.Minute)
				}
				total++
				if time.Now().Before(until) {
					return &os.PathError{Op: op, Path: name, Err: why}
				}
				return nil
			})
		}
		w.start()
		if why := w.settles(); why != "" {
			t.Errorf("change %d: %s", n, why)
		}
		r, m := w.last(), w.host.Look()
		trials := 0
		for _, b := range m.Boots {
			if b.Trial != "" {
				trials++
			}
		}
		if trials > 1 || r.Now.Parked != "" {
			t.Errorf("change %d: %d boots of the trial, parked %q", n, trials, r.Now.Parked)
		}
		if n < 0 && s.name == "good" && r.Operation.Phase != fleet.PhaseCommitted {
			t.Errorf("with a good disk it ended %s", r.Operation.Phase)
		}
		w.end()
	})
	return total
}
