package script

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/kernwave/kernwave/cache"
	"go.starlark.net/starlark"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	// attack("what") does from within what no program can: what is left when the interpreter itself is broken.
	extra = starlark.StringDict{"attack": starlark.NewBuiltin("attack", func(_ *starlark.Thread, _ *starlark.Builtin, args starlark.Tuple, _ []starlark.Tuple) (starlark.Value, error) {
		switch what := string(args[0].(starlark.String)); what {
		case "fork":
			_, _, errno := syscall.RawSyscall(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0)
			return nil, errno
		case "exec":
			return nil, syscall.Exec("/bin/true", []string{"true"}, nil)
		case "socket":
			_, err := net.Dial("tcp", "127.0.0.1:6379")
			return nil, err
		case "open":
			_, err := os.ReadFile("/etc/passwd")
			return nil, err
		case "write":
			return nil, os.WriteFile("/tmp/kernwave-escaped", nil, 0o600)
		case "loop": // outside of the interpreter, where no step is counted
			for { //nolint:revive // endless on purpose
			}
		case "alloc":
			var keep [][]byte
			for {
				b := make([]byte, 1<<20)
				for i := range b {
					b[i] = 1
				}
				keep = append(keep, b)
				if len(keep) < 0 {
					return nil, nil
				}
			}
		case "thread":
			var wg sync.WaitGroup
			for range 4 {
				wg.Go(func() { runtime.LockOSThread(); time.Sleep(10 * time.Millisecond) })
			}
			wg.Wait()
			return starlark.None, nil
		default:
			panic(what)
		}
	})}
	RunIfChild()
	flag.Parse()
	os.Exit(m.Run())
}

const manifest = `name: CACHE.X.TRY
summary: for tests
version: 1.0.0
class: %s
owner: team-cache
%s
tests:
  - name: none
    rows: 0
`

// bundle makes one out of a program's text and more of a manifest.
func bundle(t testing.TB, class, more, program string) *Bundle {
	t.Helper()
	b, err := newBundle(map[string][]byte{manifestFile: fmt.Appendf(nil, manifest, class, more), programFile: []byte(program)})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func rss(t testing.TB) int64 {
	t.Helper()
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	var size, resident int64
	if _, err := fmt.Sscan(string(b), &size, &resident); err != nil {
		t.Fatal(err)
	}
	return resident * int64(os.Getpagesize())
}

// TestHostile: whatever a program does, it ends within 250 ms over its budget, says which budget, and the gateway is as
// it was. The figure is of an idle machine: the limit here leaves room for a busy one, and the overrun is printed.
func TestHostile(t *testing.T) {
	r := NewRunner("", nil)
	const budgets = "budgets: {wall: 30s, memory: 32mb, output: 100kb, steps: 1_000_000_000}"
	for _, tc := range []struct{ name, budgets, program, want string }{
		{"endless loop", "budgets: {wall: 300ms, steps: 10_000_000_000}", "def run(args, nodes):\n  for i in range(1 << 60):\n    pass\n", "its budget of wall is 300ms, and its run took longer"},
		{"endless loop by steps", "budgets: {steps: 100_000}", "def run(args, nodes):\n  for i in range(1 << 60):\n    pass\n", "its budget of steps is 100000"},
		{"10 GB string", budgets, "def run(args, nodes):\n  return 'x' * (10 * 1000 * 1000 * 1000)\n", "too large"},
		{"1 GB string", budgets, "def run(args, nodes):\n  return 'x' * (1000 * 1000 * 1000)\n", "its budget of memory is"},
		{"10 GB string by doubling", budgets, "def run(args, nodes):\n  s = 'x'\n  for i in range(34):\n    s = s + s\n", "its budget of memory is"},
		{"10 GB list", budgets, "def run(args, nodes):\n  l = []\n  for i in range(1 << 60):\n    l.append('%d' % i)\n", "its budget of memory is"},
		{"large number", "budgets: {wall: 1s, memory: 32mb, steps: 1_000_000_000}", "def run(args, nodes):\n  x = 3\n  for i in range(100):\n    x = x * x\n", "its budget of "},
		{"recursion", budgets, "def f(n):\n  return f(n + 1)\ndef run(args, nodes):\n  f(0)\n", "command.star:2: function f called recursively"},
		{"deep nesting", budgets, "x = " + strings.Repeat("(", 100_000) + "1" + strings.Repeat(")", 100_000) + "\ndef run(args, nodes):\n  pass\n", "excessive nesting"},
		{"deep value", budgets, "def run(args, nodes):\n  x = []\n  for i in range(100):\n    x = [x]\n  emit(x = x)\n", "nest deeper than 8"},
		{"giant output", budgets, "def run(args, nodes):\n  for i in range(1 << 60):\n    emit(n = i)\n", "its budget of output is 102400 bytes"},
		{"giant row", budgets, "def run(args, nodes):\n  emit(s = 'x' * 2000000)\n", "its budget of output is"},
		{"giant plan", budgets, "def run(args, nodes):\n  plan.unlink(nodes[0], 'x')\n", "index 0 out of range"},
		{"load", budgets, "load('os', 'fork')\ndef run(args, nodes):\n  pass\n", "load is not allowed"},
		{"while", budgets, "def run(args, nodes):\n  while True:\n    pass\n", "while"},
		{"fork", budgets, "def run(args, nodes):\n  attack('fork')\n", "it tried to leave its confinement"},
		{"exec", budgets, "def run(args, nodes):\n  attack('exec')\n", "it tried to leave its confinement"},
		{"socket", budgets, "def run(args, nodes):\n  attack('socket')\n", "it tried to leave its confinement"},
		{"read a file", budgets, "def run(args, nodes):\n  attack('open')\n", "operation not permitted"},
		{"write a file", budgets, "def run(args, nodes):\n  attack('write')\n", "operation not permitted"},
		{"loop outside the interpreter", "budgets: {wall: 300ms}", "def run(args, nodes):\n  attack('loop')\n", "its budget of wall is 300ms"},
		{"memory outside the interpreter", budgets, "def run(args, nodes):\n  attack('alloc')\n", "its budget of memory is"},
		{"threads of the runtime", budgets, "def run(args, nodes):\n  attack('thread')\n", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := bundle(t, "read", tc.budgets, tc.program)
			before := rss(t)
			began := time.Now()
			_, err := r.Run(t.Context(), Order{Bundle: b})
			over := time.Since(began) - b.Manifest.Budgets.Wall
			if tc.want == "" {
				if err != nil {
					t.Errorf("%v", err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got  %v\nwant %s", err, tc.want)
			}
			if over > 250*time.Millisecond {
				t.Logf("ended %v over its budget of time", over.Round(time.Millisecond))
			}
			if over > 5*time.Second {
				t.Errorf("ended %v over its budget of time", over)
			}
			if grown := rss(t) - before; grown > 16<<20 {
				t.Errorf("the gateway has grown by %d MiB", grown>>20)
			}
		})
	}
}

// TestOthersAreUnharmed: while hostile programs run and die, another one does its work.
func TestOthersAreUnharmed(t *testing.T) {
	r := NewRunner("", nil)
	bad := bundle(t, "read", "budgets: {wall: 500ms, steps: 10_000_000_000, memory: 16mb}", "def run(args, nodes):\n  attack(args.what)\n")
	good := bundle(t, "read", "", "def run(args, nodes):\n  emit(n = args.n + 1)\n")
	var wg sync.WaitGroup
	for _, what := range []string{"loop", "alloc", "fork"} {
		wg.Go(func() {
			if _, err := r.Run(t.Context(), Order{Bundle: bad, Args: cache.Dict("what", cache.String(what))}); err == nil {
				t.Errorf("%s: no error", what)
			}
		})
	}
	for i := range 3 {
		res, err := r.Run(t.Context(), Order{Bundle: good, Args: cache.Dict("n", cache.Number(i))})
		if err != nil || len(res.Rows) != 1 || res.Rows[0].Get("n").Int != int64(i+1) {
			t.Errorf("%+v, %v", res, err)
		}
	}
	wg.Wait()
}

// TestCancelEndsTheChild: who does not wait any more costs nothing any more.
func TestCancelEndsTheChild(t *testing.T) {
	r := NewRunner("", nil)
	b := bundle(t, "read", "budgets: {wall: 60s}", "def run(args, nodes):\n  attack('loop')\n")
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(200*time.Millisecond, cancel)
	began := time.Now()
	_, err := r.Run(ctx, Order{Bundle: b})
	if e, ok := errors.AsType[*cache.Error](err); !ok || e.Code != cache.CodeCancelled {
		t.Errorf("%v", err)
	}
	if d := time.Since(began); d > 10*time.Second {
		t.Errorf("ended after %v", d)
	}
}

func TestMistakesInThePrograms(t *testing.T) {
	r := NewRunner("", nil)
	for program, want := range map[string]string{
		"def run(args, nodes)\n  pass\n":                        "command.star:2: got newline, want ':'",
		"def run(args):\n  pass\n":                              "there is no function run(args, nodes)",
		"x = 1\n":                                               "there is no function run(args, nodes)",
		"def run(args, nodes):\n  return nothing\n":             "command.star:2: undefined: nothing",
		"def run(args, nodes):\n  emit(1)\n":                    "",
		"def run(args, nodes):\n  pass\nfor i in []:\n  pass\n": "command.star:3: for loop not within a function",
	} {
		err := r.Check(t.Context(), bundle(t, "read", "", program))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v, want %s", program, err, want)
		}
	}
	_, err := r.Run(t.Context(), Order{Bundle: bundle(t, "read", "", "def run(args, nodes):\n  emit(1)\n")})
	if err == nil || !strings.Contains(err.Error(), "command.star:2: emit: name each column") {
		t.Errorf("%v", err)
	}
}

// TestManifest: a manifest with many mistakes gets all of them said, each with its line.
func TestManifestMistakes(t *testing.T) {
	_, err := ParseManifest([]byte(`name: cache.stale
summary: ""
version: one
class: writes
commands: [TTL, KEYS]
args:
  - name: prefix
    type: string
    help: x
  - name: on
    type: text
    help: x
budgets: {wall: 2h, memory: lots}
colour: red
tests: []
`))
	f, ok := errors.AsType[Findings](err)
	want := []string{
		`manifest.yaml:1: name: "cache.stale" is no name; write CACHE.X.WORD in capitals`,
		`manifest.yaml:1: owner is missing`,
		`manifest.yaml:2: summary is empty`,
		`manifest.yaml:3: version: "one" is no version; write three numbers, as 1.0.0`,
		`manifest.yaml:4: class: "writes" is no class; use read, loadread or write`,
		`manifest.yaml:5: commands: KEYS is not allowed to programs; docs/reference/cache-manifest.md lists what is, and changes go into the plan`,
		`manifest.yaml:8: args: prefix: there is no type "string"; use text, integer, decimal, duration, size, flag or pattern`,
		`manifest.yaml:10: args: every command has an argument on already`,
		`manifest.yaml:13: budgets: wall: "2h" is not allowed; give a value above 0, up to 1h0m0s`,
		`manifest.yaml:13: budgets: memory: "lots" is not allowed; give a value above 0, up to 1024mb`,
		`manifest.yaml:14: the manifest has no "colour"; it has name, summary, help, version, class, owner, args, select, max_nodes, commands, writes, budgets, reply, tests`,
	}
	if !ok || strings.Join(f, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(f, "\n"), strings.Join(want, "\n"))
	}
	for _, text := range []string{"", "a", "- a", "a: [", "a: 1\na: 2", "tests: {x: 1}", "args: x", "args: [1, {}]", "\x00", "name: {a: b}"} {
		if _, err := ParseManifest([]byte(text)); err == nil {
			t.Errorf("%q is a manifest", text)
		}
	}
}

func FuzzManifest(f *testing.F) {
	f.Add(fmt.Appendf(nil, manifest, "read", "args: [{name: a, type: size, default: 1kb, help: x}]"))
	f.Add([]byte("name: CACHE.X.A\nbudgets: {wall: 1s}\ntests:\n  - {name: a, setup: [[SET, a, b], SET a b], plan: []}\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := ParseManifest(text)
		if err == nil && (m.Name == "" || len(m.Tests) == 0 || m.Class == 0 || m.Budgets.Wall <= 0) {
			t.Fatalf("%q is a manifest without what it must have: %+v", text, m)
		}
	})
}
