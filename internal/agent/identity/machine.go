package identity

import (
	"encoding/json"
	"fmt"
	"path/filepath"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/agent/disk"
)

// machine is the hardware that a certificate was given to. A copy of the state directory on other hardware, as in an
// image of a disk, shows by it.
type machine struct {
	ID     string `json:"id"` // fleet.Facts.MachineID
	Serial string `json:"serial,omitempty"`
	Model  string `json:"model,omitempty"`
}

func machineOf(f fleet.Facts) machine {
	return machine{ID: f.MachineID, Serial: f.Hardware.Serial, Model: f.Hardware.Vendor + "/" + f.Hardware.Model}
}

// other says whether n is certainly other hardware than m. A kernel that cannot read what the firmware says, and a
// machine-id that was drawn anew on the same hardware, prove nothing.
func (m machine) other(n machine) bool {
	blind := func(m machine) bool { return m.ID == "" || m.Model == "/" }
	switch {
	case m.ID == n.ID, blind(m) || blind(n):
		return false
	case m.Serial != "" || n.Serial != "":
		return m.Serial != "" && n.Serial != "" && m.Serial != n.Serial
	}
	return true
}

func (m machine) String() string { return fleet.MachineName(m.ID, m.Serial) }

// Copied says why the identity belongs to another machine than the one with these facts; empty: it does not. The first
// machine that asks is the one that it belongs to.
func (id *Identity) Copied(f fleet.Facts) string {
	id.mu.Lock()
	defer id.mu.Unlock()
	here := machineOf(f)
	if id.own.leaf == nil || here.ID == "" || id.own.Machine == here {
		return ""
	}
	if id.own.Machine.ID != "" && id.own.Machine.other(here) {
		return fmt.Sprintf("the certificate of %s was given to %s, and this is %s: its disk was copied, or moved", id.own.Host, id.own.Machine, here)
	}
	c := id.own
	c.Machine = here
	if err := id.write(c); err == nil { // else: the next start tries again
		id.own = c
	}
	return ""
}

// Moved forgets which machine the identity belongs to: the next one that asks is it.
func (id *Identity) Moved() error {
	id.mu.Lock()
	defer id.mu.Unlock()
	c := id.own
	c.Machine = machine{}
	if err := id.write(c); err != nil {
		return fmt.Errorf("write certificate: %w", err)
	}
	id.own = c
	return nil
}

func (id *Identity) write(c certificates) error {
	data, err := json.Marshal(c)
	if err != nil {
		return err
	}
	return disk.Replace(id.fs, filepath.Join(id.dir, certFile), data, 0o600)
}
