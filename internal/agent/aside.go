package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/agent/disk"
	"github.com/kernwave/kernwave/internal/agent/journal"
)

// asideSuffix is added to the name of a journal that a person has set aside.
const asideSuffix = ".damaged"

// JournalFile is one file among a host's journals, for people.
type JournalFile struct {
	Operation fleet.OperationID `json:"operation"`
	Path      string            `json:"path"`
	// Records is how many can be read, Last the last of them; nil: none can.
	Records int     `json:"records"`
	Last    *Record `json:"last,omitempty"`
	// Damage is why the file, from where on, cannot be believed: the agent is parked. Empty: it can.
	Damage string `json:"damage,omitempty"`
	Next   string `json:"next,omitempty"` // what to do about it
	// Aside says that a person has looked at it and set it aside: nobody reads it any more.
	Aside bool `json:"aside,omitempty"`
}

// Journals lists the journals below stateDir, damaged ones and those set aside too, without changing any.
func Journals(fsys disk.FS, stateDir string) ([]JournalFile, error) {
	dir := filepath.Join(stateDir, "operations")
	names, err := fsys.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list journals: %w", err)
	}
	var out []JournalFile
	for _, name := range names {
		stem, isJournal := strings.CutSuffix(name, journalSuffix)
		f := JournalFile{Operation: idOf(stem), Path: filepath.Join(dir, name)}
		if id, ok := asideID(name); ok {
			f.Operation, f.Aside = id, true
		} else if !isJournal {
			continue
		}
		f.read(fsys)
		out = append(out, f)
	}
	return out, nil
}

// read looks at as much of the file as can be believed.
func (f *JournalFile) read(fsys disk.FS) {
	ops, err := readStates(fsys, f.Path)
	if err != nil {
		f.Damage, f.Next = err.Error(), afterDamage(err)
		ops = nil
		data, rerr := fsys.ReadFile(f.Path)
		if rerr != nil {
			return
		}
		raw, _, _ := journal.Parse(f.Path, data) // the damage is said above
		for _, r := range raw {
			var o operation
			if json.Unmarshal(r, &o) != nil || !o.Phase.Known() {
				break
			}
			ops = append(ops, o)
		}
	}
	f.Records = len(ops)
	if len(ops) > 0 {
		r := ops[len(ops)-1].record()
		f.Last = &r
	}
}

// SetAside renames the damaged journal of an operation, so that an agent that is started anew does not read it. The
// operation is not begun again all the same. A journal that can be read is refused: it is the host's memory.
func SetAside(fsys disk.FS, stateDir string, id fleet.OperationID) (to string, err error) {
	dir := filepath.Join(stateDir, "operations")
	path := filepath.Join(dir, fileName(id)+journalSuffix)
	fail := func(err error, next string) (string, error) {
		return "", &fleet.Error{Op: "set aside the journal of operation " + string(id), Err: err, Next: next}
	}
	_, err = readStates(fsys, path)
	if errors.Is(err, fs.ErrNotExist) {
		return fail(fmt.Errorf("there is no %s", path), "kernwave-agent journal lists what there is")
	}
	if err == nil {
		return fail(errors.New("it is not damaged, and the agent needs it"), "leave it where it is")
	}
	to = path + asideSuffix
	for n := 2; ; n++ {
		if _, err := fsys.ReadFile(to); errors.Is(err, fs.ErrNotExist) {
			break
		}
		to = fmt.Sprintf("%s%s-%d", path, asideSuffix, n)
	}
	if err := fsys.Rename(path, to); err != nil {
		return fail(err, "see what the error names")
	}
	return to, fsys.SyncDir(dir)
}

// asideID says of which operation a file was the journal, if a person set it aside.
func asideID(name string) (id fleet.OperationID, ok bool) {
	stem, after, ok := strings.Cut(name, journalSuffix+asideSuffix)
	if !ok || after != "" && after[0] != '-' {
		return "", false
	}
	return idOf(stem), true
}

// idOf undoes fileName.
func idOf(stem string) fleet.OperationID {
	if id, err := url.PathUnescape(stem); err == nil {
		stem = id
	}
	return fleet.OperationID(stem)
}

// afterDamage says what a person can do about a journal that cannot be believed.
func afterDamage(err error) string {
	d, ok := errors.AsType[*journal.DamageError](err)
	if !ok {
		return "see why it cannot be read (the disk?), then: systemctl restart kernwave-agent"
	}
	id := idOf(strings.TrimSuffix(filepath.Base(d.Path), journalSuffix))
	aside := "kernwave-agent journal --set-aside " + string(id) + " && systemctl restart kernwave-agent"
	if d.Version > journal.Version {
		return "a newer kernwave-agent wrote it: install that again; or look at the host, then: " + aside
	}
	return "look at the host and its disk, then: " + aside
}
