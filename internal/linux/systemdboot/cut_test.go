package systemdboot

import (
	"os"
	"strings"
	"testing"

	"github.com/kernwave/kernwave/internal/linux/efivar"
)

type powerCut struct{}

// cutAt does what f does until the nth write, which does not happen any more. It says whether there was one.
func (h *host) cutAt(n int, f func() error) (cut bool, where string) {
	h.t.Helper()
	defer func() {
		h.d.before = func(string) {}
		switch r := recover(); r.(type) {
		case nil:
		case powerCut:
			cut = true
		default:
			panic(r)
		}
	}()
	h.d.before = func(what string) {
		if n--; n < 0 {
			where = what
			panic(powerCut{})
		}
	}
	if err := f(); err != nil {
		h.t.Fatal(err)
	}
	return false, ""
}

// At whatever write the power is cut: the next boot is of the old kernel, or of the one trial, and the boot after that
// is of the old kernel again.
func TestAPowerCutAtAnyWrite(t *testing.T) {
	entry := "boot/efi/loader/entries/" + token + "-" + middle
	for _, c := range []struct {
		name string
		make func(h *host)
		do   func(h *host) error
		// what a plain boot may run after the cut
		plain []string
	}{
		{"securing the way back, with everything to mend", func(h *host) {
			text := strings.Replace(entryText(middle), "quiet", "quiet kernwave.trial=op-0", 1)
			h.remove(entry + ".conf")
			h.write(entry+"+3.conf", text)
			h.remove("etc/kernel/cmdline")
			h.variable(efivar.OneShot, TrialID)
			h.variable(efivar.Default, token+"-"+middle+"*") // as an operator may have it
		}, func(h *host) error { return h.d.SecureWayBack(h.t.Context(), middle) }, []string{middle}},
		{"arming", (*host).secure, func(h *host) error { return h.d.Arm(h.t.Context(), trial) }, []string{middle}},
		{"disarming", func(h *host) {
			h.secure()
			if err := h.d.Arm(h.t.Context(), trial); err != nil {
				h.t.Fatal(err)
			}
		}, func(h *host) error { return h.d.Disarm() }, []string{middle}},
		{"committing", func(h *host) {
			h.secure()
			if err := h.d.Arm(h.t.Context(), trial); err != nil {
				h.t.Fatal(err)
			}
			h.wantBoot(newest, true)
		}, func(h *host) error { return h.d.Commit(h.t.Context(), newest) }, []string{middle, newest}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for n := 0; ; n++ {
				h := newHost(t)
				c.make(h)
				cut, where := h.cutAt(n, func() error { return c.do(h) })
				e := h.boots()
				if e.ID == TrialID {
					e = h.boots()
				}
				allowed := false
				for _, r := range c.plain {
					allowed = allowed || e.Release == r
				}
				if e.ID == TrialID || !allowed {
					t.Errorf("power cut before %q: boots %s (%s), want one of %v", where, e.Release, e.ID, c.plain)
				}
				if !cut {
					if n < 2 {
						t.Fatalf("only %d writes: nothing was tried", n)
					}
					return
				}
				// The agent that comes back does it again.
				if err := c.do(h); err != nil && c.name != "committing" {
					t.Errorf("again after a power cut before %q: %v", where, err)
				}
			}
		})
	}
}

// What a power cut leaves of a file is passed over by the loader, and by us.
func TestTornFilesAreNoEntries(t *testing.T) {
	h := newHost(t)
	h.secure()
	if err := h.d.Arm(t.Context(), trial); err != nil {
		t.Fatal(err)
	}
	h.write("boot/efi/loader/entries/."+TrialID+".new-123", entryText(newest))
	if err := os.Truncate(h.path("boot/efi/loader/entries/"+TrialID), 10); err != nil {
		t.Fatal(err)
	}
	h.wantBoot(middle, false)
	h.wantBoot(middle, false)
	if err := h.d.Arm(t.Context(), trial); err != nil {
		t.Fatal(err)
	}
	h.wantBoot(newest, true)
}
