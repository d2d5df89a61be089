package lab

import (
	"errors"
	"fmt"
	"strings"
)

// ErrRebooted is returned by Exec when the host restarted while the command ran, so its result is lost.
var ErrRebooted = errors.New("the host restarted while the command ran")

// ErrSlow is in the chain of an error that only says that a limit passed: the host may still get there.
var ErrSlow = errors.New("slow")

// withConsole adds the last lines of a host's serial console to an error, and what its machine is at.
func withConsole(err error, h *host, lines int) error {
	if log := tailOf(h.serial(), lines); log != "" {
		err = fmt.Errorf("%w\nthe console of %s ends with:\n    %s", err, h.spec.Name, strings.ReplaceAll(log, "\n", "\n    "))
	}
	if at := whereabouts(h.dir); at != "" {
		err = fmt.Errorf("%w\nthe machine of %s: %s", err, h.spec.Name, at)
	}
	return err
}
