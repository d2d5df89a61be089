package grub

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/linux/durable"
)

// shown is what a trial on this host showed, kept as long as GRUB's environment block is the same file on the same device.
type shown struct {
	Identity string        `json:"identity"`
	OneShot  fleet.OneShot `json:"one_shot"`
	Why      string        `json:"why"`
}

// rememberedOneShot joins the static check with what an earlier trial showed.
func (d *Driver) rememberedOneShot(p place) (fleet.OneShot, string) {
	static, why := oneShotByPlace(p)
	if static == fleet.OneShotImpossible {
		return static, why
	}
	b, err := os.ReadFile(d.path(oneShotFile))
	if err != nil {
		return static, why
	}
	var s shown
	id, idErr := d.identity(p)
	if json.Unmarshal(b, &s) != nil || idErr != nil || s.Identity != id {
		return static, why // of another disk or file: shown for nothing that is here now
	}
	return s.OneShot, s.Why
}

func (d *Driver) identity(p place) (string, error) {
	fi, err := os.Stat(d.path(envFile))
	if err != nil {
		return "", err
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return "", errors.New("the file has no inode number")
	}
	device := p.UUID // device names may change with the order of probing
	if device == "" {
		device = p.Device
	}
	return fmt.Sprintf("%s %s %d", p.FS, device, st.Ino), nil
}

// OneShotProven remembers that GRUB forgot a one-shot entry by itself. The caller has seen that this boot came from the
// trial's entry; here it is checked that next_entry is empty. Where it is not, GRUB cannot clear it: the next boot would
// be the trial again, for ever. It is cleared here, and the host is remembered as one that cannot take part.
func (d *Driver) OneShotProven() error {
	s, err := d.load()
	if err != nil {
		return err
	}
	p, err := placeOf(d.root, grubDir)
	if err != nil {
		return err
	}
	id, err := d.identity(p)
	if err != nil {
		return err
	}
	if s.env.Get("next_entry") == "" {
		return d.remember(shown{id, fleet.OneShotProven, "a trial on this host was booted once, and GRUB forgot it"})
	}
	why := "a trial was booted on this host, and GRUB did not clear next_entry"
	if err := errors.Join(d.remember(shown{id, fleet.OneShotImpossible, why}), d.Disarm()); err != nil {
		return err
	}
	return &fleet.Error{Op: "check that GRUB forgot the one-shot entry", Err: errors.New(why), Next: "move /boot to a plain partition with ext4, or leave the host out"}
}

func (d *Driver) remember(s shown) error {
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return durable.Write(d.path(oneShotFile), append(b, '\n'), 0o644)
}
