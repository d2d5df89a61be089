package cli

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/kernwave/kernwave/internal/cli/clitest"
	"github.com/kernwave/kernwave/internal/operator"
)

// against is a process whose settings lead to s.
func against(s *clitest.Server, out, errs io.Writer) Process {
	env := map[string]string{envServer: s.URL, envCA: s.CAFile, envToken: clitest.AdminToken, "HOME": "/nowhere"}
	p := testProcess(nil, nil)
	p.RetryAfter = time.Millisecond
	p.Out, p.Err, p.Getenv = out, errs, func(k string) string { return env[k] }
	return p
}

func startFleet(t *testing.T, f clitest.Fleet) *clitest.Server {
	t.Helper()
	s, err := clitest.Start(f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// Following prints what was, then what happens, each once, and ends with an interrupt.
func TestEventsFollow(t *testing.T) {
	s := startFleet(t, clitest.Small())
	ctx, interrupt := context.WithCancel(t.Context())
	out, w := io.Pipe()
	var errs bytes.Buffer
	code := make(chan int, 1)
	go func() {
		code <- Run(ctx, []string{"events", "--follow", "--every", "100ms", "-o", "json"}, against(s, w, &errs))
		w.Close()
	}()
	lines := bufio.NewScanner(out)
	next := func() string {
		if !lines.Scan() {
			t.Fatalf("following ended: %s", errs.String())
		}
		return lines.Text()
	}
	for _, seq := range []string{"101", "102", "103", "104"} {
		if line := next(); !strings.HasPrefix(line, `{"version":1,"kind":"event","seq":`+seq+",") {
			t.Fatalf("got %s, want event %s", line, seq)
		}
	}
	s.Busy(2) // a restart does not end it
	s.Happen(operator.Event{Seq: 105, At: clitest.Now, Who: "control", Kind: "test", What: "something new"})
	if line := next(); !strings.Contains(line, `"seq":105`) || !strings.Contains(line, "something new") {
		t.Fatalf("got %s, want the new event", line)
	}
	interrupt()
	if lines.Scan() {
		t.Errorf("told after the interrupt: %s", lines.Text())
	}
	if got := <-code; got != ExitInterrupted {
		t.Errorf("exit code %d, want %d: %s", got, ExitInterrupted, errs.String())
	}
}

// Leaving a view ends this program alone, at once, and says nothing.
func TestWatchIsLeftByAnInterrupt(t *testing.T) {
	s := startFleet(t, clitest.Small()) // its rollout never ends
	ctx, interrupt := context.WithCancel(t.Context())
	out, w := io.Pipe()
	var errs bytes.Buffer
	code := make(chan int, 1)
	go func() {
		code <- Run(ctx, []string{"rollout", "watch"}, against(s, w, &errs))
		w.Close()
	}()
	lines := bufio.NewScanner(out)
	for lines.Scan() && !strings.Contains(lines.Text(), "waits for") {
	}
	interrupt()
	if got := <-code; got != ExitInterrupted || errs.Len() > 0 {
		t.Errorf("exit code %d, want %d, and %q", got, ExitInterrupted, errs.String())
	}
}

// A control plane from which nothing comes back is not waited for longer than was asked.
func TestTimeoutIsKept(t *testing.T) {
	s := startFleet(t, clitest.Small())
	s.Hang()
	var out, errs bytes.Buffer
	code := Run(t.Context(), []string{"hosts", "--timeout", "50ms"}, against(s, &out, &errs))
	if code != ExitUnreachable || !strings.Contains(errs.String(), "no answer within") || !strings.Contains(errs.String(), "--timeout waits longer") {
		t.Errorf("exit code %d: %s", code, errs.String())
	}
}

// Foreign text cannot rewrite what stands on an operator's screen, wherever it appears.
func TestForeignTextIsMadeSafe(t *testing.T) {
	f := clitest.Panicking()
	evil := "\x1b[2J\x1b]0;title\x07\u202e"
	f.Hosts[0].Facts.Hardware.Model = evil
	f.Hosts[0].Now.NotInServiceWhy, f.Hosts[0].Now.InService = evil, false
	f.Events[0].What, f.Events[0].Why, f.Events[0].Who = evil, evil, evil
	f.Incidents[0].Saw, f.Incidents[0].Choices[0].Command = evil, evil
	f.Rollouts[0][0].StatusWhy, f.Rollouts[0][0].Next, f.Rollouts[0][0].Hosts[1].Why = evil, evil, evil
	f.Use[1].Out[0].Why = evil
	f.Why["web-3"] = operator.Why{Host: "web-3", Why: evil, Next: evil}
	s := startFleet(t, f)
	for _, args := range [][]string{
		{"hosts"},
		{"host", "show", "web-1"},
		{"events"},
		{"incidents"},
		{"incidents", "i-3"},
		{"rollout", "status", "--all"},
		{"rollout", "watch", "--until-paused"},
		{"rollout", "list"},
		{"budget", "list"},
		{"why", "web-3"},
		{"status"},
		{"host", "show", evil},
	} {
		var out, errs bytes.Buffer
		Run(t.Context(), args, against(s, &out, &errs))
		for _, r := range out.String() + errs.String() {
			if r != '\n' && isUnsafe(r) {
				t.Errorf("%v prints %U", args, r)
				break
			}
		}
		if out.Len()+errs.Len() == 0 {
			t.Errorf("%v prints nothing", args)
		}
	}
}
