package systemdboot

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/linux/durable"
	"github.com/kernwave/kernwave/internal/linux/efivar"
)

const oneShotFile = "/var/lib/kernwave/one-shot.json"

// shown is what a trial on this host showed, kept as long as loader and firmware are the same.
type shown struct {
	Identity string        `json:"identity"`
	OneShot  fleet.OneShot `json:"one_shot"`
	Why      string        `json:"why"`
}

// identity says whose word it is that a one-shot entry is forgotten.
func (d *Driver) identity(s state) string {
	firmware, _ := d.vars.Text(efivar.Firmware) // without it: by the loader alone
	return fmt.Sprintf("%s; firmware %s; ESP %s", s.info, firmware, s.bootedFrom)
}

// rememberedOneShot joins what is known of the loader with what an earlier trial showed.
func (d *Driver) rememberedOneShot(s state) (fleet.OneShot, string) {
	static, why := fleet.OneShotAssumed, s.info+" deletes "+efivar.OneShot+" before it boots the entry"
	if s.info == "" {
		static, why = fleet.OneShotUnknown, "the loader does not say what it is"
	}
	b, err := os.ReadFile(filepath.Join(d.root, oneShotFile))
	if err != nil {
		return static, why
	}
	var r shown
	if json.Unmarshal(b, &r) != nil || r.Identity != d.identity(s) {
		return static, why // of another loader or firmware: shown for nothing that is here now
	}
	return r.OneShot, r.Why
}

// OneShotProven remembers that systemd-boot forgot a one-shot entry by itself. It is checked here that this boot came
// from the trial's entry and that the variable is gone. Where it is not, the firmware cannot delete it: the next boot
// would be the trial again, for ever. It is deleted here, and the host is remembered as one that cannot take part.
func (d *Driver) OneShotProven() error {
	s, err := d.load()
	if err != nil {
		return err
	}
	if !strings.EqualFold(s.selected, TrialID) {
		return &fleet.Error{
			Op: "check that systemd-boot forgot the one-shot entry", Err: fmt.Errorf("a trial's words are on the command line, but %s says that this boot came from %q", efivar.Selected, s.selected),
			Next: "take what begins with kernwave. out of the entry's options and of " + cmdlineFile,
		}
	}
	if s.oneShot == "" {
		return d.remember(shown{d.identity(s), fleet.OneShotProven, "a trial on this host was booted once, and systemd-boot forgot it"})
	}
	why := "a trial was booted on this host, and systemd-boot did not delete " + efivar.OneShot
	if err := errors.Join(d.remember(shown{d.identity(s), fleet.OneShotImpossible, why}), d.Disarm()); err != nil {
		return err
	}
	return &fleet.Error{Op: "check that systemd-boot forgot the one-shot entry", Err: errors.New(why), Next: "leave the host out, or have its firmware mended"}
}

func (d *Driver) remember(s shown) error {
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return durable.Write(filepath.Join(d.root, oneShotFile), append(b, '\n'), 0o644)
}
