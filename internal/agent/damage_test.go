package agent_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/agent"
	"github.com/kernwave/kernwave/internal/agent/agenttest"
	"github.com/kernwave/kernwave/internal/agent/disk"
	"github.com/kernwave/kernwave/internal/agent/hook"
	"github.com/kernwave/kernwave/internal/agent/journal"
)

// story is one way that an operation can go.
type story struct {
	name string
	set  func(*world)
}

func stories() []story {
	return []story{
		{"good", func(*world) {}},
		{"panic", func(w *world) {
			w.host.Change(func(m *agenttest.Machine) { m.Kernels = map[string]agenttest.Behaviour{newRelease: {Panic: "-"}} })
		}},
		{"failed check", func(w *world) { w.apps.Fail(hook.Check, hook.Result{What: "exit status 1"}) }},
		{"failed drain", func(w *world) { w.apps.Fail(hook.Drain, hook.Result{What: "exit status 1"}) }},
		{"reboot into the same kernel", func(w *world) {
			w.set(func(w *world) { w.want.Kind, w.want.Kernel = fleet.KindReboot, fleet.Kernel{} })
		}},
	}
}

// journalOf lets a story happen and returns its journal.
func journalOf(t *testing.T, s story) (data []byte) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, dir)
		w.want = update("op-1")
		s.set(w)
		w.start()
		w.untilEnd(2 * time.Hour)
		w.end()
		var err error
		if data, err = os.ReadFile(w.journalPath("op-1")); err != nil {
			t.Fatal(err)
		}
	})
	return data
}

// TestJournalsCutAtEveryByte cuts the journal of each kind of operation at every byte, and changes each byte of it: what
// is read is the beginning of the truth, or damage with its place. Nothing else is ever believed.
func TestJournalsCutAtEveryByte(t *testing.T) {
	for _, s := range stories() {
		t.Run(s.name, func(t *testing.T) {
			data := journalOf(t, s)
			whole, _, err := journal.Parse("x", data)
			if err != nil || len(whole) < 4 {
				t.Fatalf("%d records, %v", len(whole), err)
			}
			check := func(what string, damaged []byte, mayBeDamage bool) {
				got, good, err := journal.Parse("x", damaged)
				if err != nil && !mayBeDamage {
					t.Fatalf("%s: %v", what, err)
				}
				if good > int64(len(damaged)) || len(got) > len(whole) {
					t.Fatalf("%s: %d records, %d good bytes", what, len(got), good)
				}
				for i := range got {
					if !bytes.Equal(got[i], whole[i]) {
						t.Fatalf("%s: record %d is believed to be %s", what, i, got[i])
					}
				}
				if mayBeDamage && err == nil && len(got) == len(whole) {
					t.Fatalf("%s: believed", what)
				}
			}
			for n := range data {
				check(fmt.Sprintf("cut at %d", n), data[:n], false)
			}
			damaged := bytes.Clone(data)
			for n := range damaged {
				for _, flip := range []byte{0x01, 0x80} {
					damaged[n] ^= flip
					check(fmt.Sprintf("byte %d ^ %#x", n, flip), damaged, true)
					damaged[n] ^= flip
				}
			}
			t.Logf("%d records, %d bytes", len(whole), len(data))
		})
	}
}

// record frames a payload as an agent does, whatever it says.
func record(payload string) []byte {
	c := crc32.MakeTable(crc32.Castagnoli)
	r := binary.LittleEndian.AppendUint32(nil, uint32(len(payload)))
	r = binary.LittleEndian.AppendUint32(r, crc32.Checksum([]byte(payload), c))
	r = binary.LittleEndian.AppendUint32(r, crc32.Checksum(r, c))
	return append(r, payload...)
}

// damages are what can become of a journal that is not a torn last record, and what the host says of each.
var damages = []struct {
	name, says, next string
	do               func([]byte) []byte
}{
	{"a flipped bit in the last record", "does not match its checksum", "its disk", func(b []byte) []byte { b[len(b)-3] ^= 4; return b }},
	{"a flipped bit in the first", "does not match its checksum", "its disk", func(b []byte) []byte { b[20] ^= 1; return b }},
	{"a newer version", "version 2", "a newer kernwave-agent wrote it", func(b []byte) []byte { return append(b, record(`{"version":2,"state":{}}`)...) }},
	{"an unknown phase", "unknown phase", "its disk", func(b []byte) []byte {
		return append(b, record(`{"version":1,"state":{"id":"op-1","phase":"dancing"}}`)...)
	}},
}

// TestDamageAtAnyRecord kills the agent after each record of each kind of operation and damages the journal. However far
// it was, the host is parked, in service, with nothing armed, says why and what to do, and stays up; only out of a
// trial that was not committed it goes back by itself, once, drained. When a person has set the journal aside, the
// operation is not begun again, and the next one is.
func TestDamageAtAnyRecord(t *testing.T) {
	for _, s := range stories() {
		records, _, _ := journal.Parse("x", journalOf(t, s))
		for n := range records {
			for i, d := range damages {
				if i != n%len(damages) && (testing.Short() || s.name != "good") {
					continue
				}
				t.Run(fmt.Sprintf("%s/record %d/%s", s.name, n+1, d.name), func(t *testing.T) {
					dir := t.TempDir()
					synctest.Test(t, func(t *testing.T) { damageAt(t, dir, s, n+1, d.says, d.next, d.do) })
				})
			}
		}
	}
}

func damageAt(t *testing.T, dir string, s story, n int, says, next string, damage func([]byte) []byte) {
	w := newWorld(t, dir)
	w.want = update("op-1")
	s.set(w)
	path := w.journalPath("op-1")
	synced := 0
	var bootsThen int
	var inTrial bool
	w.disk = afterSync{disk.OS{}, func(name string) {
		if name != path {
			return
		}
		if synced++; synced != n {
			return
		}
		m := w.host.Look()
		bootsThen, inTrial = len(m.Boots), m.Trial != nil && m.Default != m.Running || m.Trial != nil && m.Trial.Release == oldRelease
		data, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(path, damage(data), 0o600)
		}
		if err != nil {
			t.Error(err)
		}
		w.host.KillAgent()
	}}
	w.start()
	r := w.until("parked and in service", time.Hour, func(r fleet.Report) bool { return r.Now.Parked != "" && r.Now.InService })
	for _, want := range []string{says, next, path, "kernwave-agent journal --set-aside op-1 && systemctl restart kernwave-agent"} {
		if !strings.Contains(r.Now.Parked, want) {
			t.Errorf("it does not say %q: %s", want, r.Now.Parked)
		}
	}
	time.Sleep(2 * time.Hour)
	m := w.host.Look()
	r = w.last()
	if m.OneShot != nil || m.Default != m.Running || !r.Now.InService || w.apps.Drained() {
		t.Errorf("armed %v, default %s, runs %s, in service %v, drained %v", m.OneShot, m.Default, m.Running, r.Now.InService, w.apps.Drained())
	}
	switch more := len(m.Boots) - bootsThen; {
	case more == 0:
	case more == 1 && inTrial && m.Trial == nil:
	default:
		t.Errorf("%d boots after the damage, in a trial: %v", more, inTrial)
	}
	// A person looks, and sets it aside.
	boots := len(m.Boots)
	if _, err := agent.SetAside(disk.OS{}, dir, "op-1"); err != nil {
		t.Fatal(err)
	}
	w.host.KillAgent()
	w.until("not parked", time.Hour, func(r fleet.Report) bool { return r.Now.Parked == "" })
	time.Sleep(10 * time.Minute) // op-1 is still wanted
	if m := w.host.Look(); len(m.Boots) != boots {
		t.Error("the operation was begun again")
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("the operation has a new journal")
	}
	w.host.Change(func(m *agenttest.Machine) { m.Kernels = nil })
	w.apps.Fail(hook.Check, hook.Result{})
	w.apps.Fail(hook.Drain, hook.Result{})
	w.set(func(w *world) { w.want, w.phases = update("op-2"), nil })
	r = w.untilEnd(time.Hour)
	if r.Operation.ID != "op-2" || r.Operation.Phase != fleet.PhaseCommitted {
		t.Errorf("the next operation ended %+v", r.Operation)
	}
	w.end()
}

// afterSync calls back after each sync of a file.
type afterSync struct {
	disk.FS
	synced func(name string)
}

func (d afterSync) OpenAppend(name string) (disk.File, error) {
	f, err := d.FS.OpenAppend(name)
	return afterSyncFile{f, d, name}, err
}

type afterSyncFile struct {
	disk.File
	d    afterSync
	name string
}

func (f afterSyncFile) Sync() error {
	err := f.File.Sync()
	f.d.synced(f.name)
	return err
}
