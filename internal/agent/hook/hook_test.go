package hook_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kernwave/kernwave/internal/agent/hook"
)

func writeFiles(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestOrder(t *testing.T) {
	dir := writeFiles(t, map[string]string{
		"20-db.yaml":   "drain: {argv: [a]}\nundrain: {argv: [b]}\n",
		"10-lb.yaml":   "drain: {argv: [c]}\nundrain: {argv: [d]}\nready: {argv: [e], timeout: 5s}\n",
		"README":       "not ours",
		".hidden.yaml": "nonsense: 1",
	})
	s, err := hook.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	names := func(k hook.Kind) string {
		var out []string
		for _, p := range s.Of(k) {
			out = append(out, p.App)
		}
		return strings.Join(out, " ")
	}
	if got := names(hook.Drain); got != "10-lb 20-db" {
		t.Errorf("drain order: got %q", got)
	}
	if got := names(hook.Undrain); got != "20-db 10-lb" {
		t.Errorf("undrain order: got %q", got)
	}
	want := []hook.Program{{App: "10-lb", Kind: hook.Ready, Argv: []string{"e"}, Timeout: 5 * time.Second}}
	if diff := cmp.Diff(want, s.Of(hook.Ready)); diff != "" {
		t.Errorf("ready (-want +got):\n%s", diff)
	}
	if got := s.Of(hook.Drain)[0].Timeout; got != hook.DefaultTimeout {
		t.Errorf("timeout: got %v", got)
	}
}

func TestMissingDirectoryHoldsNone(t *testing.T) {
	s, err := hook.Load(filepath.Join(t.TempDir(), "missing"))
	if err != nil || len(s.Of(hook.Drain)) != 0 {
		t.Errorf("got %v, %v", s, err)
	}
}

func TestEveryMistakeInEveryFile(t *testing.T) {
	dir := writeFiles(t, map[string]string{
		"a.yaml": "drain:\n  timeout: 2h\nready:\n  argv: []\n",
		"b.yaml": "dran: {argv: [x]}\n",
		"c.yaml": "undrain:\n  argv: [x]\n  user: root\n",
	})
	_, err := hook.Load(dir)
	if err == nil {
		t.Fatal("no mistake was told")
	}
	got := strings.ReplaceAll(err.Error(), dir+"/", "")
	want := `a.yaml:1: drain: argv is missing: the program and its arguments, like [systemctl, stop, app]
a.yaml:1: drain: there is no undrain: say how the application returns
a.yaml:2: timeout: 2h0m0s is outside 1ms to 1h0m0s
a.yaml:4: argv: names no program
b.yaml:1: unknown key "dran"; known here: drain, undrain, ready, check
c.yaml:3: unknown key "user"; known here: argv, timeout`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("mistakes (-want +got):\n%s", diff)
	}
}

func program(script string) hook.Program {
	return hook.Program{App: "app", Kind: hook.Check, Argv: []string{"sh", "-c", script}, Timeout: 20 * time.Second}
}

func TestRun(t *testing.T) {
	env := hook.Env{Operation: "op-1", Kernel: "k", Phase: "trial"}
	for _, c := range []struct {
		name, script string
		ok           bool
		what, output string
	}{
		{"exit code 0 is yes", "echo fine", true, "", "fine\n"},
		{"another one is no", "echo bad >&2; exit 3", false, "exit status 3", "bad\n"},
		{"the environment says what for", `echo $KERNWAVE_OPERATION $KERNWAVE_KERNEL $KERNWAVE_PHASE`, true, "", "op-1 k trial\n"},
		{"a signal is no", "kill -9 $$", false, "signal: killed", ""},
		{"the end of long output is kept", "seq 1 10000; exit 1", false, "exit status 1", "10000\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := hook.Run(t.Context(), program(c.script), env)
			if r.OK != c.ok || r.What != c.what || !strings.HasSuffix(r.Output, c.output) || len(r.Output) > 4<<10+len("…") {
				t.Errorf("got %+v, want ok=%v what=%q output=…%q", r, c.ok, c.what, c.output)
			}
		})
	}
}

func TestRunMissingProgram(t *testing.T) {
	r := hook.Run(t.Context(), hook.Program{Argv: []string{"/no/such/program"}, Timeout: time.Second}, hook.Env{})
	if r.OK || !strings.Contains(r.What, "no such file") {
		t.Errorf("got %+v", r)
	}
}

// TestTimeoutKillsTheWholeGroup: a child that the program started must not go
// on draining after the answer.
func TestTimeoutKillsTheWholeGroup(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "alive")
	p := program("sh -c 'echo started > " + fifo + "; exec sleep 600' & wait")
	p.Timeout = 300 * time.Millisecond
	r := hook.Run(t.Context(), p, hook.Env{})
	if r.OK || r.What != "timed out after 300ms" {
		t.Errorf("got %+v", r)
	}
	if r.Took > 10*time.Second {
		t.Errorf("took %v: the child was not killed", r.Took)
	}
}

func TestCancelSaysWhy(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(context.DeadlineExceeded)
	r := hook.Run(ctx, program("sleep 600"), hook.Env{})
	if r.OK || r.What != context.DeadlineExceeded.Error() {
		t.Errorf("got %+v", r)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("drain: {argv: [a, b], timeout: 5s}\nundrain: {argv: [c]}\n"))
	f.Add([]byte("check:\n  argv:\n    - a\n"))
	f.Add([]byte("ready: 1"))
	f.Fuzz(func(t *testing.T, data []byte) {
		ps, err := hook.Parse("f.yaml", data)
		if err != nil && len(ps) > 0 {
			t.Fatal("programs of a file with mistakes")
		}
		for _, p := range ps {
			if len(p.Argv) == 0 || p.Argv[0] == "" || p.Timeout <= 0 || p.Timeout > hook.MaxTimeout {
				t.Fatalf("accepted %+v", p)
			}
		}
	})
}

func TestCommandCanBePasted(t *testing.T) {
	for want, argv := range map[string][]string{
		"/bin/true":                    {"/bin/true"},
		`/bin/sh -c 'echo "$HOME"; x'`: {"/bin/sh", "-c", `echo "$HOME"; x`},
		`echo 'it'\''s' ''`:            {"echo", "it's", ""},
		"curl -fsS 'http://h:80/?a=b'": {"curl", "-fsS", "http://h:80/?a=b"},
	} {
		if got := (hook.Program{Argv: argv}).Command(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
