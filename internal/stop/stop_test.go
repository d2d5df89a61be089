package stop

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

var at = time.Date(2031, 5, 1, 8, 0, 0, 0, time.UTC)

func TestAStopSurvivesARestart(t *testing.T) {
	dir := t.TempDir()
	s := Open(dir)
	if why, is := s.Stopped(); is {
		t.Fatalf("stopped from the start: %s", why)
	}
	for _, who := range []string{"alice", "bob"} {
		if err := s.Set(Order{Who: who, Why: "smoke", At: at}); err != nil {
			t.Fatal(err)
		}
	}
	for name, s := range map[string]*Stop{"now": s, "after a restart": Open(dir)} {
		if why, is := s.Stopped(); !is || why != "stopped by bob at 2031-05-01T08:00:00Z: smoke" {
			t.Errorf("%s: %v, %q", name, is, why)
		}
	}
	if err := s.Lift(); err != nil {
		t.Fatal(err)
	}
	for name, s := range map[string]*Stop{"now": s, "after a restart": Open(dir)} {
		if why, is := s.Stopped(); is {
			t.Errorf("lifted, %s: %q", name, why)
		}
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 0 {
		t.Errorf("%v are left (%v)", left, err)
	}
}

func TestWhatCannotBeReadIsAStop(t *testing.T) {
	for name, content := range map[string]string{"empty": "", "torn": `{"who":"al`, "of nobody": `{}`, "nonsense": "\x00\xff"} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "stop"), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			s := Open(dir)
			if why, is := s.Stopped(); !is || !strings.Contains(why, "damaged") {
				t.Errorf("%v, %q; want a stop that says so", is, why)
			}
			if err := s.Lift(); err != nil {
				t.Fatal(err)
			}
			if _, is := s.Stopped(); is {
				t.Error("it could not be lifted")
			}
		})
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "stop"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, is := Open(dir).Stopped(); !is {
		t.Error("a stop file that cannot be read is no stop")
	}
}

func TestAStopIsInForceWithoutTheDisk(t *testing.T) {
	s := Open(filepath.Join(t.TempDir(), "gone"))
	inForce := false
	err := s.SetNow(Order{Who: "alice", At: at}, func() { _, inForce = s.Stopped() })
	if err == nil {
		t.Error("the file could not be written, and nobody heard of it")
	}
	if _, is := s.Stopped(); !is || !inForce {
		t.Errorf("stopped %v, at once %v; want both", is, inForce)
	}
}

// TestAStopOnAFullDiskSurvivesARestart: a disk without room for the reason still holds that there was a stop.
func TestAStopOnAFullDiskSurvivesARestart(t *testing.T) {
	dir := t.TempDir()
	s := Open(dir)
	full := errors.New("no space left on device")
	s.durably = func(string, []byte) error { return full }
	if err := s.Set(Order{Who: "alice", Why: "smoke", At: at}); !errors.Is(err, full) || !errors.Is(err, ErrReasonLost) {
		t.Errorf("set: %v", err)
	}
	if why, is := s.Stopped(); !is || !strings.Contains(why, "smoke") {
		t.Errorf("now: %v, %q", is, why)
	}
	s = Open(dir)
	if why, is := s.Stopped(); !is || !strings.Contains(why, "damaged") {
		t.Errorf("after a restart: %v, %q", is, why)
	}
	if err := s.Lift(); err != nil {
		t.Error(err)
	}
}

// TestAStopDuringALiftStays: whichever comes first, memory and file agree at the end, and after a last Set both stop.
func TestAStopDuringALiftStays(t *testing.T) {
	dir := t.TempDir()
	s := Open(dir)
	for range 50 {
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				if err := s.Set(Order{Who: "a", At: at}); err != nil {
					t.Error(err)
				}
			})
			wg.Go(func() {
				if err := s.Lift(); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		_, now := s.Stopped()
		if _, later := Open(dir).Stopped(); now != later {
			t.Fatalf("stopped now %v, after a restart %v", now, later)
		}
	}
}
