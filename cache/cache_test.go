package cache

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// probe is a command with one argument of each kind.
func probe(run Handler) *Command {
	return &Command{
		Name: "CACHE.KEY EXPLAIN", Summary: "say what a key is", Class: Read, Run: run,
		Args: []Arg{
			{Name: "key", Help: "a key"},
			{Name: "also", Optional: true, Type: Integer, Help: "a number"},
			ArgTop, ArgOn, ArgFormat, ArgDryRun,
			{Name: "for", Keyword: "FOR", Type: Duration, Optional: true, Default: "5", Min: 0.1, Max: 60},
			{Name: "mem", Keyword: "MEM", Type: Size, Optional: true, Max: 1 << 30},
			{Name: "by", Keyword: "BY", Optional: true, Default: "mem", Enum: []string{"mem", "items"}},
		},
	}
}

func TestParse(t *testing.T) {
	cmd := probe(func(context.Context, *Call) (Value, error) { return OK, nil })
	c, err := cmd.Parse([]string{"k", "7", "top", "3", "FOR", "250ms", "MEM", "64kb", "by", "ITEMS", "ON", "cluster:a*,role:replica", "DRYRUN"})
	if err != nil {
		t.Fatal(err)
	}
	if c.Text("key") != "k" || c.Int("also") != 7 || c.Int("top") != 3 || c.Duration("for") != 250*time.Millisecond ||
		c.Int("mem") != 65536 || c.Text("by") != "items" || !c.Flag("dryrun") || c.Select("on").String() != "cluster:a*,role:replica" {
		t.Errorf("parsed %+v", c.args)
	}
	c, err = cmd.Parse([]string{"top", "TOP", "9"}) // a positional comes first, whatever it is called
	if err != nil || c.Text("key") != "top" || c.Int("top") != 9 || c.Given("also") || c.Duration("for") != 5*time.Second || c.Given("for") {
		t.Errorf("parsed %+v, %v", c, err)
	}
}

func TestBadArguments(t *testing.T) {
	cmd := probe(func(context.Context, *Call) (Value, error) { return OK, nil })
	for _, tc := range []struct{ words, want string }{
		{"", "ERR wrong number of arguments for 'cache.key explain' command; usage: CACHE.KEY EXPLAIN key [also] [TOP top]"},
		{"k TOP", "ERR CACHE.KEY EXPLAIN: TOP needs a value; usage: "},
		{"k TOP 0", "ERR TOP: 0 is out of bounds; give a value from 1 to 10000"},
		{"k TOP many", "ERR TOP: 'many' is not allowed; give a whole number from 1 to 10000"},
		{"k TOP 1 TOP 2", "ERR CACHE.KEY EXPLAIN: TOP is given twice; give it once"},
		{"k FOR 1h", "ERR FOR: 1h is out of bounds; give a value from 0.1 to 60 s"},
		{"k FOR -1s", "ERR FOR: '-1s' is not allowed; give a duration as 250ms, 5s or 2h from 0.1 to 60 s"},
		{"k FOR nan", "ERR FOR: 'nan' is not allowed"},
		{"k MEM 2gb", "ERR MEM: 2gb is out of bounds"},
		{"k MEM 99999999999gb", "ERR MEM: '99999999999gb' is not allowed"},
		{"k BY size", "ERR BY: 'size' is not allowed; give one of mem, items"},
		{"k ON here", `ERR ON: "here" is no selector: write cluster:NAME, node:HOST:PORT`},
		{"k ON role:master", `ERR ON: "role:master": a role is primary or replica; for example`},
		{"k ON cluster:[", `ERR ON: "cluster:[": the pattern is malformed`},
		{"k 7 loud", "ERR CACHE.KEY EXPLAIN takes no argument 'loud'; see CACHE.KEY EXPLAIN HELP"},
		{"k x", "ERR also: 'x' is not allowed; give a whole number"},
		{"k 7 \x00\n", `takes no argument '\x00'`},
	} {
		words := strings.Fields(tc.words)
		_, err := cmd.Parse(words)
		e, ok := errors.AsType[*Error](err)
		if !ok || !strings.Contains(e.Error(), tc.want) {
			t.Errorf("%q: %v, want %s", tc.words, err, tc.want)
		}
	}
}

func TestGatewayRefusesAndRecords(t *testing.T) {
	log := &MemLog{}
	reg := NewRegistry()
	ran := 0
	must(t, reg.Put(probe(func(context.Context, *Call) (Value, error) {
		ran++
		return Dict("n", Number(1), "s", String("é\xff")), nil
	})))
	must(t, reg.Put(&Command{Name: "CACHE.UNLINK", Summary: "x", Class: Write, Run: func(context.Context, *Call) (Value, error) { ran++; return OK, nil }}))
	must(t, reg.Put(&Command{Name: "CACHE.DRAIN", Summary: "x", Class: Disruptive, Run: func(context.Context, *Call) (Value, error) { ran++; return OK, nil }}))
	g := &Gateway{Registry: reg, Users: Loopback{}, Log: log}
	do := func(u User, line string) (Value, error) {
		return g.Do(t.Context(), Request{User: u, Args: strings.Fields(line), From: "test"})
	}
	op, low := User{"ada", Operator}, User{"vi", Viewer}
	for _, tc := range []struct {
		u          User
		line, want string
	}{
		{low, "CACHE.NO", "ERR unknown command 'CACHE.NO'; COMMAND DOCS lists the commands"},
		{low, "CACHE.KEY SHOW", "ERR unknown subcommand of 'CACHE.KEY'; use one of EXPLAIN"},
		{low, "CACHE.UNLINK", "NOPERM this gateway does not write"}, // and another role would not help
		{op, "CACHE.DRAIN", "NOPERM this gateway does not write"},
		{User{}, "CACHE.DRAIN", "NOAUTH Authentication required; AUTH"},
		{op, "CACHE.UNLINK", "NOPERM this gateway does not write: it has no users and no credential for writes; start it with --clusters FILE"},
		{User{}, "CACHE.KEY EXPLAIN k", "NOAUTH Authentication required; AUTH"},
	} {
		if _, err := do(tc.u, tc.line); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %s", tc.line, err, tc.want)
		}
	}
	g.Writes = func(*Command) error { return nil }
	for _, tc := range []struct {
		u          User
		line, want string
	}{
		{low, "CACHE.UNLINK", "NOPERM user vi is viewer, and CACHE.UNLINK is a write command; ask someone who is operator"},
		{op, "CACHE.DRAIN", "NOPERM user ada is operator, and CACHE.DRAIN is a disruptive command; ask someone who is admin"},
	} {
		if _, err := do(tc.u, tc.line); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %s", tc.line, err, tc.want)
		}
	}
	g.Writes = nil
	if ran != 0 {
		t.Fatal("a refused command ran")
	}
	v, err := do(low, "cache.key explain secret FORMAT json")
	if want := `{"n":1,"s":{"base64":"w6n/"}}`; err != nil || v.Str != want {
		t.Errorf("%+v, %v, want %s", v, err, want)
	}
	v, err = do(low, "CACHE.KEY EXPLAIN HELP")
	if err != nil || !strings.HasPrefix(v.Items[0].Str, "CACHE.KEY EXPLAIN key [also]") {
		t.Errorf("help: %+v, %v", v, err)
	}
	events, _ := log.Tail(100)
	var kinds []string
	for _, e := range events {
		kinds = append(kinds, e.Kind)
		if strings.Contains(e.What, "secret") {
			t.Errorf("the record shows a key: %s", e.What)
		}
	}
	if got, want := strings.Join(kinds, " "), "call.refused call.refused call.refused call.refused call.refused call.refused call.refused call.begun call.done"; got != want {
		t.Errorf("recorded %s, want %s", got, want)
	}
}

func TestCancelledCallSaysSo(t *testing.T) {
	reg := NewRegistry()
	must(t, reg.Put(&Command{Name: "CACHE.WAIT", Summary: "x", Class: Read, Run: func(ctx context.Context, _ *Call) (Value, error) {
		<-ctx.Done()
		return Value{}, ctx.Err()
	}}))
	g := &Gateway{Registry: reg, Users: Loopback{}, Log: &MemLog{}}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := g.Do(ctx, Request{User: User{"a", Viewer}, Args: []string{"CACHE.WAIT"}})
	if e, ok := errors.AsType[*Error](err); !ok || e.Code != CodeCancelled {
		t.Errorf("%v, want %s", err, CodeCancelled)
	}
}

// TestLogCutAnywhere: a power cut may leave any prefix of the file. What is whole stays, and the next event follows it.
func TestLogCutAnywhere(t *testing.T) {
	dir := t.TempDir()
	whole := filepath.Join(dir, "whole")
	l, err := OpenLog(whole)
	must(t, err)
	for i := range 4 {
		if _, err := l.Append(Event{Who: "ada", Kind: "call.begun", What: strings.Repeat("x", i)}); err != nil {
			t.Fatal(err)
		}
	}
	must(t, l.Close())
	b, err := os.ReadFile(whole)
	must(t, err)
	for cut := range len(b) + 1 {
		path := filepath.Join(dir, "cut")
		must(t, os.WriteFile(path, b[:cut], 0o600))
		l, err := OpenLog(path)
		if err != nil {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		lines := int64(strings.Count(string(b[:cut]), "\n"))
		if seq, err := l.Append(Event{Kind: "after"}); err != nil || seq != lines+1 {
			t.Fatalf("cut at %d: the next event is %d (%v), want %d", cut, seq, err, lines+1)
		}
		must(t, l.Close())
		if l, err = OpenLog(path); err != nil {
			t.Fatalf("cut at %d and gone on: %v", cut, err)
		}
		must(t, l.Close())
	}
	// One byte changed in the middle is found.
	bad := []byte(strings.Replace(string(b), `"x"`, `"y"`, 1))
	must(t, os.WriteFile(whole, bad, 0o600))
	if l, err := OpenLog(whole); err == nil || !strings.Contains(err.Error(), "was changed") {
		t.Errorf("a forged line was taken: %v, %v", l, err)
	}
}

func TestUsers(t *testing.T) {
	sum := sha256.Sum256([]byte("secret"))
	h := hex.EncodeToString(sum[:])
	u, err := ParseUsers("u", []byte(`{"users":[{"name":"ada","role":"admin","secret_sha256":"`+h+`"}],"default":"viewer"}`))
	must(t, err)
	if who, err := u.Login("ada", "secret"); err != nil || who != (User{"ada", Admin}) {
		t.Errorf("%v, %v", who, err)
	}
	for _, pair := range [][2]string{{"ada", "wrong"}, {"bob", "secret"}, {"", ""}} {
		if _, err := u.Login(pair[0], pair[1]); err == nil {
			t.Errorf("%q was let in", pair)
		}
	}
	_, err = ParseUsers("u", []byte(`{"users":[{"name":"a b","role":"admin","secret_sha256":""},{"name":"c","role":"king"},{"name":"d","role":"viewer","secret_sha256":"12"}],"default":"god"}`))
	if err == nil || strings.Count(err.Error(), "\n") != 3 {
		t.Errorf("want four mistakes at once, got %v", err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
