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

// withConsole adds the last lines of a host's serial console to an error.
func withConsole(err error, h *host, lines int) error {
	log := tailOf(h.serial(), lines)
	if log == "" {
		return err
	}
	return fmt.Errorf("%w\nthe console of %s ends with:\n    %s", err, h.spec.Name, strings.ReplaceAll(log, "\n", "\n    "))
}
