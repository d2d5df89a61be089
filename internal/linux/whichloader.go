package linux

import (
	"errors"
	"log/slog"
	"os"
	"strings"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/linux/command"
	"github.com/kernwave/kernwave/internal/linux/efivar"
	"github.com/kernwave/kernwave/internal/linux/grub"
	"github.com/kernwave/kernwave/internal/linux/loader"
	"github.com/kernwave/kernwave/internal/linux/systemdboot"
)

const noLoader = "no boot loader that is known here: there is no /boot/grub/grub.cfg, and systemd-boot is not on an ESP that is mounted"

// chooseLoader takes the driver of the loader that booted the machine, where that says so. GRUB before 2.12 says nothing.
// Where nothing can be read although there is UEFI, a machine that has systemd-boot's files is its driver's, which
// refuses: a grub.cfg may be left of another time, and to change it would change nothing.
func chooseLoader(root string, run command.Runner, log *slog.Logger) (BootLoader, error) {
	g, err := grub.New(grub.Config{Root: root}, run, log)
	if err != nil {
		return nil, err
	}
	s := systemdboot.New(systemdboot.Config{Root: root}, run, log)
	by := efivar.BootedBy(root)
	if strings.HasPrefix(by, "systemd-boot") {
		return s, nil
	}
	if by != "" {
		return g, nil
	}
	_, unreadable := efivar.New(root).Usable()
	if uefi(root) && s.Present() && (unreadable != nil || !g.Present()) {
		return s, nil
	}
	return g, nil
}

func uefi(root string) bool {
	_, err := os.Stat(root + "/sys/firmware/efi")
	return err == nil
}

// foreignLoader names the loader that booted this machine where it says so and is none of ours.
func (h *Host) foreignLoader() string {
	name, _, _ := strings.Cut(efivar.BootedBy(h.root), " ")
	if name == "" || strings.HasPrefix(name, "grub") || name == "systemd-boot" {
		return ""
	}
	return name
}

// nextBootIsTheLoaders refuses where the firmware was told to start something else at the next boot: a trial would not
// be booted then, and what would be cannot be told.
func (h *Host) nextBootIsTheLoaders() error {
	if !efivar.BootNext(h.root) {
		return nil
	}
	return &fleet.Error{
		Op: "secure the way back", Err: errors.New("someone told the firmware what to start at the next boot (BootNext), which may not be the boot loader"),
		Next: "reboot, or run: efibootmgr --delete-bootnext",
	}
}

// bootProblems lists what stands in the way of a safe trial.
func (h *Host) bootProblems(running string) ([]loader.Problem, error) {
	if h.foreignLoader() != "" || !h.boot.Present() {
		return nil, nil // said elsewhere
	}
	ps, err := h.boot.Problems(running)
	if err == nil && efivar.BootNext(h.root) {
		e := h.nextBootIsTheLoaders().(*fleet.Error)
		ps = append(ps, loader.Problem{What: e.Err.Error(), Next: e.Next})
	}
	return ps, err
}
