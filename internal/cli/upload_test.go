package cli

import (
	"bytes"
	"testing"
	"time"

	"github.com/kernwave/kernwave/internal/cli/clitest"
)

func TestUploadBar(t *testing.T) {
	a := &app{Process: testProcess(&bytes.Buffer{}, &bytes.Buffer{})}
	b := a.newUploadBar("linux-image-6.12.117+deb12-cloud-amd64_6.12.117-1_amd64.deb", 70_000_000)
	if b.live {
		t.Error("a bar moves where there is no terminal")
	}
	b.add(35_000_000)
	want := "linux-image-6.12.117~.12.117-1_amd64.deb  ##########..........  50 %  17.5 MB/s"
	if got := b.line(2 * time.Second); got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	empty := a.newUploadBar("empty.deb", 0)
	if got := empty.line(0); got != "empty.deb  ....................   0 %" {
		t.Errorf("an empty file: %q", got)
	}
}

// Stop and start are sent again while the control plane is away, other commands are not: they may do something twice.
func TestOnlyWhatMayBeRepeatedIsRepeated(t *testing.T) {
	for _, c := range []struct {
		args []string
		busy int
		want int
	}{
		{[]string{"stop", "--why", "x"}, attempts - 1, ExitOK},
		{[]string{"stop", "--why", "x"}, attempts, ExitUnreachable},
		{[]string{"rollout", "start", clitest.NewRelease}, attempts - 1, ExitOK},
		{[]string{"rollout", "pause", "r-7"}, 1, ExitUnreachable},
		{[]string{"operator", "create", "bob", "--role", "viewer"}, 1, ExitUnreachable},
	} {
		s := startFleet(t, clitest.Small())
		s.Busy(c.busy)
		var out, errs bytes.Buffer
		if code := Run(t.Context(), c.args, against(s, &out, &errs)); code != c.want {
			t.Errorf("%v while %d calls fail: exit code %d, want %d: %s", c.args, c.busy, code, c.want, errs.String())
		}
	}
}
