package control

import (
	"fmt"
	"slices"
	"time"

	"github.com/kernwave/kernwave/fleet"
)

// maxLines is how many lines a host's row keeps: enough to know a machine again that comes back between the reboots
// of another.
const maxLines = 8

// provenReturns is how many returns are proof. One is none: somebody may have put a virtual machine back to a state
// that it had before its last reboot, and then the later boot is gone. Where the other one is heard again after that,
// both are there.
const provenReturns = 2

// step is what a believed report makes of a lineage.
type step struct {
	lineage  fleet.Lineage
	changed  bool
	returned string // a sentence: a line that was left is heard again, alive; empty: none is
	putBack  string // a sentence: the machine seems to have been put back to an older state
	cloned   string // a sentence: the proof that two machines use one certificate
}

// follow takes a report into a lineage. id names its line; left is the line that was left for it, as memory knows it;
// facts are the reporting machine's, nil where they are not known. The slices of l are not modified.
func follow(l fleet.Lineage, id string, left *line, rep fleet.Report, facts *fleet.Facts, now time.Time) step {
	s := step{lineage: l}
	last, known := lastLine(l)
	next := fleet.Line{ID: id, BootID: rep.Now.BootID, Since: now, LastSeq: rep.Seq}
	if known && last.ID == id {
		next = last
	}
	if facts != nil {
		next.Machine, next.Serial = facts.MachineID, facts.Hardware.Serial
	}
	if known && next == last {
		return s
	}
	s.changed = true
	lines := slices.Clone(l.Lines)
	switch i := slices.IndexFunc(lines, func(o fleet.Line) bool { return o.ID == id }); {
	case known && last.ID == id:
		lines = lines[:len(lines)-1]
	case i >= 0:
		if facts == nil {
			next.Machine, next.Serial = lines[i].Machine, lines[i].Serial
		}
		lines = slices.Delete(lines, i, i+1)
		// It went on counting while another was heard: it was alive all the time.
		s.returned = fmt.Sprintf("%s is heard again after %s", describe(next), describe(last))
	case known && last.BootID == next.BootID:
		s.putBack = fmt.Sprintf("%s goes on from an earlier moment of the same boot", describe(next))
	}
	if n := len(lines); n > 0 && left != nil && lines[n-1].ID == left.id {
		lines[n-1].LastSeq = max(lines[n-1].LastSeq, left.seq)
	}
	if s.returned == "" && next.Serial != last.Serial {
		s.returned = swapped(lines, next)
	}
	lines = append(lines, next)
	s.lineage.Lines = lines[max(0, len(lines)-maxLines):]
	if s.returned != "" {
		s.lineage.Returns++
		s.lineage.ReturnedAt = now
		if s.lineage.Returns >= provenReturns {
			s.cloned = "two machines take turns under its certificate: " + s.returned
		}
	}
	return s
}

// swapped notices hardware that takes turns, by its serial number: a disk that is moved into other hardware stays there.
// Machines without one are known by their lines alone: what else they say of themselves depends on the kernel.
func swapped(lines []fleet.Line, next fleet.Line) (returned string) {
	var between fleet.Line
	for _, o := range slices.Backward(lines) {
		switch {
		case o.Serial == "" || next.Serial == "":
		case o.Serial != next.Serial:
			between = o
		case between.ID == "":
			return ""
		default:
			return fmt.Sprintf("%s is heard again after %s", describe(next), describe(between))
		}
	}
	return ""
}

func describe(l fleet.Line) string {
	s := "boot " + l.BootID
	if len(l.BootID) > 8 {
		s = "boot " + l.BootID[:8]
	}
	switch {
	case l.Serial != "":
		s += " on serial " + l.Serial
	case len(l.Machine) > 8:
		s += " on machine " + l.Machine[:8]
	}
	return s
}
