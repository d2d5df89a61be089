package cli

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kernwave/kernwave/cache/cachetest"
)

// serveCache runs a gateway over the seed and returns its address.
func serveCache(t *testing.T, args ...string) string {
	t.Helper()
	ready := filepath.Join(t.TempDir(), "ready")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan int, 1)
	var out, errs bytes.Buffer
	go func() {
		done <- Run(ctx, append([]string{"cache", "serve", "--listen", "127.0.0.1:0", "--ready-file", ready}, args...), testProcess(&out, &errs))
	}()
	t.Cleanup(func() {
		cancel()
		if code := <-done; code != ExitOK {
			t.Errorf("the gateway ended with %d: %s", code, errs.String())
		}
	})
	for end := time.Now().Add(cachetest.Patience); ; time.Sleep(10 * time.Millisecond) {
		if b, err := os.ReadFile(ready); err == nil && bytes.HasSuffix(b, []byte("\n")) {
			return strings.TrimSpace(string(b))
		}
		select {
		case code := <-done:
			done <- code
			t.Fatalf("the gateway ended with %d: %s", code, errs.String())
		default:
		}
		if time.Now().After(end) {
			t.Fatal("the gateway did not come up")
		}
	}
}

// TestCacheDoors: the same command from here, through a gateway, and through redis-cli, says the same.
func TestCacheDoors(t *testing.T) {
	v := cachetest.Any(t)
	s := cachetest.Start(t, v)
	for i := range 10 {
		s.Must("SET", fmt.Sprintf("key:%02d", i), strings.Repeat("x", 1000<<i))
	}
	gw := serveCache(t, "--seed", s.Addr())
	want := "key:09\nkey:08\n"
	for _, args := range [][]string{{"--seed", s.Addr()}, {"--gateway", gw}} {
		code, out, errs := run(append([]string{"cache", "bigkeys", "--top", "2", "-q"}, args...)...)
		if code != ExitOK || out != want || errs != "" {
			t.Errorf("%v: %d, %q, %s", args, code, out, errs)
		}
	}
	_, port, _ := net.SplitHostPort(gw)
	for _, protocol := range []string{"-2", "-3"} {
		b, err := v.CLI(protocol, "-p", port, "--json", "CACHE.BIGKEYS", "TOP", "2").CombinedOutput()
		if protocol == "-2" { // --json speaks protocol 3
			b, err = v.CLI(protocol, "-p", port, "CACHE.BIGKEYS", "TOP", "2").CombinedOutput()
		}
		if err != nil || !strings.Contains(string(b), "key:09") || strings.Contains(string(b), "key:07") {
			t.Errorf("redis-cli %s: %s, %v", protocol, b, err)
		}
	}
	code, out, _ := run("cache", "do", "CACHE.NODES", "--gateway", gw, "-o", "json")
	if code != ExitOK || !strings.Contains(out, `"kind": "cache"`) || !strings.Contains(out, strconv.Quote(s.Addr())) {
		t.Errorf("do: %d, %s", code, out)
	}
}

func TestCacheMistakes(t *testing.T) {
	v := cachetest.Any(t)
	s := cachetest.Start(t, v)
	gone := fmt.Sprintf("127.0.0.1:%d", cachetest.FreePort(t, "127.0.0.1"))
	file := filepath.Join(t.TempDir(), "cache.yaml")
	if err := os.WriteFile(file, []byte("clusters:\n- name: a\n  seeds: [x]\n  timeout: soon\n  password_file: none\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		args string
		code int
		want []string
	}{
		{"cache nodes", ExitUsage, []string{"neither a gateway nor a fleet is named", "--seed HOST:PORT"}},
		{"cache nodes --seed " + s.Addr() + " --gateway " + gone, ExitUsage, []string{"goes without --seed"}},
		{"cache nodes --seed nowhere", ExitUsage, []string{`"nowhere" is no HOST:PORT`}},
		{"cache nodes --seed " + gone, ExitUnreachable, []string{"UNREACHABLE no node can be reached", "connection refused", "check the address"}},
		{"cache nodes --gateway " + gone, ExitUnreachable, []string{"connection refused", "kernwave cache serve"}},
		{"cache bigkeys --top 0 --seed " + s.Addr(), ExitFailed, []string{"TOP: 0 is out of bounds", "from 1 to 10000"}},
		{"cache do CACHE.NO --seed " + s.Addr(), ExitFailed, []string{"unknown command 'CACHE.NO'"}},
		{"cache do", ExitUsage, []string{"needs WORD"}},
		{"cache serve", ExitUsage, []string{"no fleet is named"}},
		{"cache serve --listen :6390 --seed " + s.Addr(), ExitUsage, []string{"is not on loopback", "names users"}},
		{"cache nodes --clusters " + file, ExitUsage, []string{"timeout", "none: no such file", "docs/reference/cache.md"}},
		{"cache nodes --clusters /nonexistent", ExitUsage, []string{"no such file"}},
	} {
		code, out, errs := run(strings.Fields(tc.args)...)
		if code != tc.code || out != "" {
			t.Errorf("%s: exit code %d, want %d; %s%s", tc.args, code, tc.code, out, errs)
		}
		for _, w := range tc.want {
			if !strings.Contains(errs, w) {
				t.Errorf("%s: %s\nlacks %s", tc.args, errs, w)
			}
		}
	}
}
