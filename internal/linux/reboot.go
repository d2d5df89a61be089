package linux

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/linux/command"
)

// Reboot asks systemd to reboot through the firmware and the boot loader. A kernel that someone has loaded for kexec is
// unloaded first: systemd would take that way by itself, past the boot loader and the one-shot entry.
func (h *Host) Reboot(ctx context.Context, why string) error {
	if err := h.forgetKexec(ctx); err != nil {
		return &fleet.Error{Op: "reboot", Err: err, Next: "run: kexec -u; then retry the host"}
	}
	h.log.InfoContext(ctx, "rebooting", "why", why)
	_, err := h.run.Run(ctx, command.Cmd{
		Name: "systemctl", Args: []string{"--no-ask-password", "--message=kernwave: " + why, "reboot"},
		Env: []string{"SYSTEMCTL_SKIP_AUTO_KEXEC=1"}, Timeout: 30 * time.Second, Both: true,
	})
	if err != nil {
		return &fleet.Error{Op: "reboot", Err: err, Next: "look at systemctl list-jobs and at what keeps the host from going down"}
	}
	return nil
}

// forgetKexec leaves no kernel loaded, and lets none be loaded any more in this boot: Debian's kexec-tools can load one
// while the system is going down. A crash kernel that is in place stays.
func (h *Host) forgetKexec(ctx context.Context) error {
	const loaded = "/sys/kernel/kexec_loaded"
	if h.text(loaded) == "1" {
		h.log.WarnContext(ctx, "unloading a kernel that was loaded for kexec")
		if err := h.kexec(); err != nil {
			return fmt.Errorf("unload the kernel that was loaded for kexec: %w", err)
		}
		if h.text(loaded) != "0" {
			return errors.New("a kernel is loaded for kexec, and it could not be unloaded: the reboot would go past the boot loader")
		}
	}
	err := os.WriteFile(h.path("/proc/sys/kernel/kexec_load_disabled"), []byte("1\n"), 0)
	if err != nil && !errors.Is(err, os.ErrNotExist) { // a kernel without kexec has no such file
		return fmt.Errorf("keep others from loading a kernel for kexec: %w", err)
	}
	return nil
}

// unloadKexec unloads by whichever of the two calls the kernel has.
func unloadKexec() error {
	const unloadByFile = 1 // KEXEC_FILE_UNLOAD
	none := ^uintptr(0)
	if _, _, errno := unix.Syscall6(unix.SYS_KEXEC_FILE_LOAD, none, none, 0, 0, unloadByFile, 0); errno == 0 {
		return nil
	}
	if _, _, errno := unix.Syscall6(unix.SYS_KEXEC_LOAD, 0, 0, 0, 0, 0, 0); errno != 0 {
		return errno
	}
	return nil
}
