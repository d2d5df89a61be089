package cli

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/kernwave/kernwave/internal/cli/clitest"
	"github.com/kernwave/kernwave/internal/operator"
)

// TestStatusAfterARestore: who is missing, and whom hosts obey instead, stands in the status, with what to do next.
func TestStatusAfterARestore(t *testing.T) {
	var out, errs bytes.Buffer
	a := &app{Process: Process{Out: &out, Err: &errs, Now: func() time.Time { return clitest.Now }, Getenv: func(string) string { return "" }}}
	v := statusAnswer{Stopped: "stopped by control plane: the store was restored", Status: operator.Status{
		Superseded: "host web-2 has obeyed another control plane",
		Rebuild:    &operator.Rebuild{Hosts: 5000, Reported: 4812, Waiting: []operator.Out{{Host: "web-7", Why: "silent since the restore"}}},
	}}
	if err := a.printStatus(v); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"rebuilding after a restore: 4,812 of 5,000 hosts have reported; waiting for web-7 (silent since the restore) and 187 more",
		"superseded", "host web-2 has obeyed another control plane",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the status lacks %q:\n%s", want, &out)
		}
	}
	if !strings.Contains(errs.String(), "kernwave host maintenance HOST") {
		t.Errorf("next: %s", &errs)
	}
}
