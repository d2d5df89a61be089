package cli

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/kernwave/kernwave/cache/cachetest"
)

// TestCacheState: a gateway with users and a folder of its own, through redis-cli and the command line: an operator's own
// command from its folder to its rollback, and a temporary change with another person's approval.
func TestCacheState(t *testing.T) {
	v := cachetest.Any(t)
	s := cachetest.Start(t, v)
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	var users []string
	for name, role := range map[string]string{"ada": "admin", "bob": "admin", "op": "operator", "vi": "viewer"} {
		users = append(users, fmt.Sprintf(`{"name": %q, "role": %q, "secret_sha256": "%x"}`, name, role, sha256.Sum256([]byte("secret of "+name))))
		write(name, "secret of "+name+"\n")
	}
	write("users.json", `{"users": [`+strings.Join(users, ",")+`]}`)
	write("none", "")
	file := write("cache.yaml", fmt.Sprintf("users: users.json\nstate: state\nrecord: record\nclusters:\n  - {name: main, seeds: [%q], write_user: default, write_password_file: none}\n", s.Addr()))
	gw := serveCache(t, "--clusters", file)
	as := func(who string, args ...string) (int, string, string) {
		return run(append([]string{"cache", "--gateway", gw, "--user", who, "--token-file", filepath.Join(dir, who)}, args...)...)
	}
	must := func(who string, args ...string) string {
		t.Helper()
		code, out, errs := as(who, args...)
		if code != ExitOK {
			t.Fatalf("%s %v: %d %s%s", who, args, code, out, errs)
		}
		return out
	}
	fails := func(want, who string, args ...string) string {
		t.Helper()
		code, out, errs := as(who, args...)
		if code == ExitOK || !strings.Contains(errs, want) {
			t.Errorf("%s %v: %d %s%s, want %s", who, args, code, out, errs, want)
		}
		return errs
	}
	bundle := filepath.Join("..", "..", "cache", "script", "examples", "nottl")
	s.Must("MSET", "user:1", "a", "user:2", "b", "order:1", "c")
	fails("CACHE.CMD PUT is for admins", "op", "cmd", "put", bundle)
	must("ada", "cmd", "put", bundle)
	fails("has not passed its tests", "ada", "cmd", "promote", "CACHE.X.NOTTL")
	if _, err := exec.LookPath("redis-check-rdb"); err == nil {
		must("op", "cmd", "test", "CACHE.X.NOTTL")
		must("op", "cmd", "shadow", "CACHE.X.NOTTL", "--with", "user:*")
		must("ada", "cmd", "promote", "CACHE.X.NOTTL")
		if out := must("op", "do", "CACHE.X.NOTTL", "user:*", "-o", "json"); !strings.Contains(out, `"prefix": "user"`) && !strings.Contains(out, `"prefix":"user"`) {
			t.Errorf("the command says %s", out)
		}
		fails("CACHE.X.NOTTL is a loadread command", "vi", "do", "CACHE.X.NOTTL")
		must("ada", "cmd", "rollback", "CACHE.X.NOTTL")
		fails("unknown command 'CACHE.X.NOTTL'", "op", "do", "CACHE.X.NOTTL")
	} else {
		t.Log("skipped in part: there is no Redis in the path to test a bundle on")
	}
	change := []string{"config", "temp", "set", "hz", "42", "--for", "1h", "--reason", "a test"}
	fails("user vi is viewer", "vi", change...)
	id := regexp.MustCompile(`p-[0-9a-f]{12}`).FindString(fails("needs another person's approval", "op", change...))
	fails("op asked for "+id+" and cannot approve it as well", "op", "approve", id)
	must("bob", "approve", id)
	must("op", append(change, "--approval", id)...)
	if got := s.Must("CONFIG", "GET", "hz").Items[1].Str; got != "42" {
		t.Errorf("hz is %s", got)
	}
	lease := regexp.MustCompile(`l-[0-9a-f]{12}`).FindString(must("vi", "config", "temp", "list", "-o", "json"))
	must("op", "config", "temp", "revert", lease)
	if got := s.Must("CONFIG", "GET", "hz").Items[1].Str; got != "10" {
		t.Errorf("hz is %s after the revert", got)
	}
	must("op", "config", "temp", "set", "slowlog-max-len", "77", "--for", "1s", "--reason", "a-test") // needs no second person
	for end := time.Now().Add(cachetest.Patience); s.Must("CONFIG", "GET", "slowlog-max-len").Items[1].Str == "77"; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it does not take itself back")
		}
	}
	if out := must("vi", "audit", "--top", "200", "-o", "json"); !strings.Contains(out, "approval.given") || !strings.Contains(out, "config.reverted") || !strings.Contains(out, "call.refused") {
		t.Errorf("the record: %s", out)
	}
	if out := must("op", "job", "list"); !strings.Contains(out, "CONFIG TEMP") {
		t.Errorf("the jobs: %s", out)
	}
}

// TestCacheWithoutState: what needs a folder says so.
func TestCacheWithoutState(t *testing.T) {
	s := cachetest.Start(t, cachetest.Any(t))
	gw := serveCache(t, "--seed", s.Addr())
	for _, args := range [][]string{{"config", "temp", "list"}, {"cmd", "list"}} {
		if code, _, errs := run(append([]string{"cache", "--gateway", gw}, args...)...); code == ExitOK || !strings.Contains(errs, "needs a gateway with a folder of its own") {
			t.Errorf("%v: %d %s", args, code, errs)
		}
	}
	if code, _, errs := run("cache", "--gateway", gw, "config", "temp", "set", "hz", "42", "--for", "1h", "--reason", "x"); code == ExitOK || !strings.Contains(errs, "this gateway does not write") {
		t.Errorf("%d %s", code, errs)
	}
}
