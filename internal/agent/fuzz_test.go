package agent

import (
	"encoding/json"
	"path/filepath"
	"testing"
	"time"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/agent/disk"
	"github.com/kernwave/kernwave/internal/agent/journal"
)

// FuzzJournalRecords writes whole, well-formed records with any content: a disk that lies, or another version's. They
// park the host, or lead on by a step that the protocol knows; never to a reboot that nobody asked for.
func FuzzJournalRecords(f *testing.F) {
	for _, p := range fleet.Phases()[1:] {
		b, err := json.Marshal(operation{Seq: 1, ID: "op-1", Kernel: fleet.Kernel{Release: "new"}, Phase: p, BootID: "b1", FromRelease: "old", FromBootID: "b1", Arming: true})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, "b2", "new", true)
		f.Add(b, "b1", "old", false)
	}
	f.Add([]byte(`{"id":"op-1","phase":"dancing"}`), "b1", "old", false)
	f.Add([]byte(`{"seq":-1,"id":"../x","phase":"trial","trial":null,"since_ns":-9223372036854775808}`), "b1", "old", true)
	f.Fuzz(func(t *testing.T, record []byte, bootID, release string, onTrial bool) {
		path := filepath.Join(t.TempDir(), "op-1"+journalSuffix)
		j, _, err := journal.Open(disk.OS{}, path)
		if err != nil {
			t.Fatal(err)
		}
		if j.Append(json.RawMessage(record)) != nil {
			return // not JSON, or too long: nobody writes that with a sum that fits
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		ops, err := readStates(disk.OS{}, path)
		if err != nil {
			return // parks
		}
		o := ops[len(ops)-1]
		n := now{BootID: bootID, Release: release, Uptime: time.Minute, Wall: time.Unix(1_700_000_000, 0)}
		if onTrial {
			n.TrialBoot = o.ID
		}
		needsLastBoot(o, n)
		next := resume(o, n, lastBoot{})
		if !o.Phase.CanBecome(next.Phase) {
			t.Fatalf("%s became %s", o.Phase, next.Phase)
		}
		if o.ended() && !same(o, next) {
			t.Fatalf("an operation that is over changed: %+v to %+v", o, next)
		}
		if act := todo(&next, n); act == doGo {
			t.Fatalf("a record alone leads to a reboot: %s", record)
		}
		if r := next.report(n); r == nil || r.ID != o.ID {
			t.Fatalf("reports %+v", r)
		}
		next.record()
	})
}
