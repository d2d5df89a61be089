package agent

import (
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/agent/disk"
)

// Record is one record of a host's journals, for people and for proofs: what the host knew of an operation, when.
type Record struct {
	Seq       int               `json:"seq"` // of the operation, on this host
	Operation fleet.OperationID `json:"operation"`
	Kind      fleet.Kind        `json:"kind"`
	Kernel    fleet.KernelID    `json:"kernel"`
	Release   string            `json:"release"`
	Phase     fleet.Phase       `json:"phase"`
	At        time.Time         `json:"at"` // the phase began, by the wall clock
	BootID    string            `json:"boot_id"`
	// Since is when the phase began on the clock of that boot.
	Since time.Duration `json:"since_ns"`
	// Grant, with its life on the clock of the boot GrantBootID, is the one under which the host left service.
	Grant       fleet.GrantID `json:"grant,omitempty"`
	GrantBootID string        `json:"grant_boot_id,omitempty"`
	GrantAsked  time.Duration `json:"grant_asked_ns,omitempty"`
	GrantUntil  time.Duration `json:"grant_until_ns,omitempty"`
	// Reboot is why the agent ended the boot RebootBootID. ConfirmAsked and RebootBegan are on its clock; a way back
	// needs no confirmation and has none.
	Reboot       string         `json:"reboot,omitempty"`
	RebootBootID string         `json:"reboot_boot_id,omitempty"`
	ConfirmAsked time.Duration  `json:"confirm_asked_ns,omitempty"`
	RebootBegan  time.Duration  `json:"reboot_began_ns,omitempty"`
	Problem      *fleet.Problem `json:"problem,omitempty"`
	Trial        *fleet.Trial   `json:"trial,omitempty"`
}

// History reads every journal below stateDir without changing any, oldest operation first. Damaged ones are left out
// and returned as errors.
func History(fsys disk.FS, stateDir string) ([]Record, []error) {
	dir := filepath.Join(stateDir, "operations")
	names, err := fsys.ReadDir(dir)
	if err != nil {
		return nil, []error{err}
	}
	var out []Record
	var damaged []error
	for _, name := range names {
		if !strings.HasSuffix(name, journalSuffix) {
			continue
		}
		ops, err := readStates(fsys, filepath.Join(dir, name))
		if err != nil {
			damaged = append(damaged, err)
		}
		for _, o := range ops {
			out = append(out, o.record())
		}
	}
	slices.SortStableFunc(out, func(a, b Record) int { return a.Seq - b.Seq })
	return out, damaged
}

func (o operation) record() Record {
	r := Record{
		Seq: o.Seq, Operation: o.ID, Kind: o.Kind, Kernel: o.Kernel.ID, Release: o.Kernel.Release, Phase: o.Phase,
		At: o.At, BootID: o.BootID, Since: o.Since, Problem: o.Problem, Trial: o.Trial,
	}
	if g := o.Grant; g != nil {
		r.Grant, r.GrantBootID, r.GrantAsked, r.GrantUntil = g.ID, g.BootID, g.Asked, g.Until
	}
	if b := o.Reboot; b != nil {
		r.Reboot, r.RebootBootID, r.ConfirmAsked, r.RebootBegan = b.Why, b.BootID, b.Asked, b.Began
	}
	return r
}
