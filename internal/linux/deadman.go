package linux

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/kernwave/kernwave/deploy"
	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/linux/durable"
)

// Where the dead-man's script and this package meet.
const (
	checksPassed = "/run/kernwave/checks-passed"
	deadManNote  = "/var/lib/kernwave/deadman-"
)

// ChecksPassed tells the dead-man of this boot that the local checks passed. Said for another operation than the one
// that was booted it is an error, for the dead-man would not listen.
func (h *Host) ChecksPassed(_ context.Context, id fleet.OperationID) error {
	booted, err := h.TrialBoot()
	if err != nil {
		return err
	}
	if booted != id {
		return fmt.Errorf("tell the dead-man that the checks of %s passed: this boot is of %q", id, booted)
	}
	return durable.Write(h.path(checksPassed), []byte(string(id)+"\n"), 0o644)
}

// DeadManFired says whether the dead-man rebooted the host out of the trial of id. It leaves a note where it could
// write one: false may also mean that the disk was read-only.
func (h *Host) DeadManFired(id fleet.OperationID) (bool, error) {
	if !operationID.MatchString(string(id)) {
		return false, nil
	}
	_, err := os.Stat(h.path(deadManNote + string(id)))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// deadManReady refuses a trial without a dead-man. The agent's own unit is not asked for here: someone may run it otherwise.
func (h *Host) deadManReady() error {
	missing, err := deploy.Missing(deploy.Options{Root: h.root})
	if err != nil {
		return err
	}
	var of []string
	for _, m := range missing {
		if strings.HasSuffix(m, deploy.DeadManUnit) || m == deploy.DeadManScript {
			of = append(of, m)
		}
	}
	if len(of) > 0 {
		return fmt.Errorf("the dead-man is not installed as it must be: %s", strings.Join(of, ", "))
	}
	return nil
}
