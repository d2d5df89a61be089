package agentcli_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kernwave/kernwave/internal/agent/disk"
	"github.com/kernwave/kernwave/internal/agent/journal"
	"github.com/kernwave/kernwave/internal/agentcli"
)

// TestDamagedJournal: what is left of it is shown, doctor says what to do, a good one is not set aside, the damaged one
// is, and then nothing is wrong any more.
func TestDamagedJournal(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "var/lib/kernwave/operations")
	write := func(id string) string {
		t.Helper()
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, id+".journal")
		j, _, err := journal.Open(disk.OS{}, path)
		if err != nil {
			t.Fatal(err)
		}
		defer j.Close()
		for _, phase := range []string{"preparing", "prepared", "draining"} {
			if err := j.Append(map[string]any{"seq": 1, "id": id, "phase": phase, "at": "2026-03-01T12:00:00Z"}); err != nil {
				t.Fatal(err)
			}
		}
		return path
	}
	write("o-1-aa")
	path := write("o-2-bb")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)-2] ^= 1
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(root, "etc/kernwave"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "etc/kernwave/agent.yaml"),
		[]byte("server: https://127.0.0.1:1\nname: web-1\nca_sha256: "+strings.Repeat("0", 64)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(wantCode int, args ...string) string {
		t.Helper()
		var out bytes.Buffer
		args = append([]string{args[0], "--root", root}, args[1:]...)
		if code := agentcli.Main(t.Context(), args, agentcli.Streams{Out: &out, Err: &out}, agentcli.Machine{}); code != wantCode {
			t.Errorf("%v: exit code %d, want %d\n%s", args, code, wantCode, &out)
		}
		return out.String()
	}
	contains := func(out string, wants ...string) {
		t.Helper()
		for _, w := range wants {
			if !strings.Contains(out, w) {
				t.Errorf("%q is missing in:\n%s", w, out)
			}
		}
	}
	next := "next: look at the host and its disk, then: kernwave-agent journal --set-aside o-2-bb && systemctl restart kernwave-agent"
	contains(run(0, "journal"), "o-1-aa                3 records, the last: draining at 2026-03-01T12:00:00Z\n",
		"o-2-bb                2 records, the last: prepared at 2026-03-01T12:00:00Z  DAMAGED", "does not match its checksum", next)
	contains(run(1, "doctor"), "fail  journal ", "the agent is parked: ", "does not match its checksum", next)
	contains(run(1, "journal", "--set-aside", "o-1-aa"), "it is not damaged, and the agent needs it")
	contains(run(1, "journal", "--set-aside", "o-9-zz"), "there is no ", "o-9-zz.journal")
	contains(run(1, "journal", "--set-aside", "../../x"), "there is no ", "%2f") // it stays inside the directory
	contains(run(0, "journal", "--set-aside", "o-2-bb"), "o-2-bb.journal.damaged", "next: systemctl restart kernwave-agent")
	contains(run(0, "journal"), "  set aside")
	contains(run(1, "doctor"), "ok    journal ", "of 1 operations")
	var ans struct {
		Journals []struct {
			Operation string
			Aside     bool
			Records   int
		}
	}
	if err := json.Unmarshal([]byte(run(0, "journal", "-o", "json")), &ans); err != nil || len(ans.Journals) != 2 ||
		ans.Journals[1].Operation != "o-2-bb" || !ans.Journals[1].Aside || ans.Journals[1].Records != 2 {
		t.Errorf("got %+v, %v", ans, err)
	}
	// The same operation's journal damaged a second time does not overwrite the first.
	write("o-2-bb")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	contains(run(0, "journal", "--set-aside", "o-2-bb"), "o-2-bb.journal.damaged-2")
}
