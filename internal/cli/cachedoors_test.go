package cli

import (
	"bytes"
	"crypto/sha256"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/kernwave/kernwave/cache"
	"github.com/kernwave/kernwave/cache/cachetest"
	"github.com/kernwave/kernwave/cache/script"
)

var allDoors = flag.Bool("cache.matrix", false, "TestEveryCommandThroughEveryDoor: each door on each topology, as make bench-cache has it; else a topology a door")

// door is one way to call a gateway.
type door struct {
	name string
	call func(who string, words []string) (out string, ok bool)
}

// cachePlace is one topology: a primary, its replica, and a key that they hold.
type cachePlace struct {
	cluster  string
	servers  [2]*cachetest.Server
	of       string // a key's beginning that puts it there
	commands map[string]bool
}

// TestEveryCommandThroughEveryDoor calls every command of the registry by redis-cli in both protocols and by the command line,
// over a cluster, a group that Sentinel watches, and a plain pair, and looks at what comes out.
func TestEveryCommandThroughEveryDoor(t *testing.T) {
	if testing.Short() {
		t.Skip("skipped: -short")
	}
	v := cachetest.Newest(t, true)
	c := cachetest.StartCluster(t, v, 3, 1)
	g := cachetest.StartSentinel(t, v, "orders", 1)
	p := cachetest.StartPair(t, v, 1)
	of := ""
	for i := 0; of == ""; i++ {
		if k := fmt.Sprintf("{t%d}", i); c.Of(t, k) == c.Primaries[0] {
			of = k
		}
	}
	places := []*cachePlace{
		{cluster: "ring", servers: [2]*cachetest.Server{c.Primaries[0], c.Replicas[0][0]}, of: of},
		{cluster: "watched", servers: [2]*cachetest.Server{g.Primary, g.Replicas[0]}},
		{cluster: "pair", servers: [2]*cachetest.Server{p.Primary, p.Replicas[0]}},
	}
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var users []string
	for _, name := range []string{"ada", "bob"} {
		users = append(users, fmt.Sprintf(`{"name": %q, "role": "admin", "secret_sha256": "%x"}`, name, sha256.Sum256([]byte("secret-of-"+name))))
		write(name, "secret-of-"+name+"\n")
	}
	write("users.json", `{"users": [`+strings.Join(users, ",")+`]}`)
	write("none", "")
	write("cache.yaml", fmt.Sprintf(`users: users.json
state: state
record: record
clusters:
- {name: ring, seeds: [%q], write_user: default, write_password_file: none, timeout: 20s}
- {name: watched, seeds: [%q], write_user: default, write_password_file: none, timeout: 20s}
- {name: pair, seeds: [%q], write_user: default, write_password_file: none, timeout: 20s}
`, c.Primaries[0].Addr(), g.Sentinels[0].Addr(), p.Primary.Addr()))
	gw := serveCache(t, "--clusters", filepath.Join(dir, "cache.yaml"))
	host, port, _ := net.SplitHostPort(gw)
	bundle := filepath.Join("..", "..", "cache", "script", "examples", "nottl")
	b, err := script.ReadDir(bundle)
	if err != nil {
		t.Fatal(err)
	}
	var doors []door
	for _, protocol := range []string{"-2", "-3"} {
		doors = append(doors, door{"redis-cli " + protocol, func(who string, words []string) (string, bool) {
			args := []string{protocol, "-e", "-h", host, "-p", port, "--user", who, "--pass", "secret-of-" + who, "--no-auth-warning"}
			stdin := words[len(words)-1] == "BUNDLE"
			if stdin {
				args, words = append(args, "-x"), words[:len(words)-1]
			}
			cmd := v.CLI(append(args, words...)...)
			if stdin {
				cmd.Stdin = bytes.NewReader(b.Tar())
			}
			out, err := cmd.CombinedOutput()
			return string(out), err == nil
		}})
	}
	doors = append(doors, door{"the command line", func(who string, words []string) (string, bool) {
		args := []string{"cache", "--gateway", gw, "--user", who, "--token-file", filepath.Join(dir, who), "-o", "json"}
		code, out, errs := run(append(args, commandLine(words, bundle)...)...)
		return out + errs, code == ExitOK
	}})
	var all []string
	for _, cmd := range cacheRegistry().Commands() {
		all = append(all, cmd.Name)
	}
	for i, d := range doors {
		for j, pl := range places {
			if !*allDoors && i != j {
				continue
			}
			t.Run(d.name+" on "+pl.cluster, func(t *testing.T) {
				pl.commands = map[string]bool{}
				pl.story(t, d)
				for _, name := range all {
					if !pl.commands[name] {
						t.Errorf("%s is not called", name)
					}
				}
			})
		}
	}
}

// commandLine writes a call as arguments of `kernwave cache`: keywords are flags.
func commandLine(words []string, bundle string) []string {
	cmd, rest := cacheRegistry().Find(words)
	if cmd == nil {
		return append([]string{"do"}, words...)
	}
	line := strings.Fields(strings.ToLower(strings.TrimPrefix(cmd.Name, "CACHE.")))
	for i := 0; i < len(rest); i++ {
		var arg *cache.Arg
		for j := range cmd.Args {
			if cmd.Args[j].Keyword == rest[i] && rest[i] != "" {
				arg = &cmd.Args[j]
			}
		}
		switch {
		case rest[i] == "BUNDLE":
			line = append(line, bundle)
		case arg == nil:
			line = append(line, rest[i])
		case arg.Type == cache.Flag:
			line = append(line, "--"+strings.ToLower(rest[i]))
		case i+1 < len(rest):
			line = append(line, "--"+strings.ToLower(rest[i]), rest[i+1])
			i++
		}
	}
	return line
}

// story calls every command, through one door on one topology.
func (pl *cachePlace) story(t *testing.T, d door) {
	calls := func(who, call string) (string, bool) {
		words := strings.Fields(call)
		if cmd, _ := cacheRegistry().Find(words); cmd != nil {
			pl.commands[cmd.Name] = true
		}
		return d.call(who, words)
	}
	ok := func(who, call, want string) string {
		t.Helper()
		out, good := calls(who, call)
		if !good || !strings.Contains(out, want) {
			t.Fatalf("%s: %v, %s\nlacks %q", call, good, out, want)
		}
		return out
	}
	id := func(out, prefix string) string {
		t.Helper()
		m := regexp.MustCompile(prefix + `-[0-9a-f]{12}`).FindString(out)
		if m == "" {
			t.Fatalf("no id %s-… in %s", prefix, out)
		}
		return m
	}
	on := " ON cluster:" + pl.cluster
	now := func() *cachetest.Server { // the primary
		for end := time.Now().Add(cachetest.Patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
			for i, s := range pl.servers {
				if s.Info("role") == "master" && pl.servers[1-i].Info("master_link_status") == "up" {
					return s
				}
			}
		}
		t.Fatal("there is no primary with a replica that follows")
		return nil
	}
	s := now()
	for i := range 50 {
		s.Must("SET", fmt.Sprintf("%suser:%d", pl.of, i), strings.Repeat("x", 100*i))
	}
	s.Must("WAIT", "1", "10000")
	key := pl.of + "user:49"

	ok("ada", "CACHE.NODES"+on, s.Addr())
	ok("ada", "CACHE.CAPS"+on, "commandlog")
	ok("ada", "CACHE.BIGKEYS TOP 50"+on, key)
	ok("ada", "CACHE.PREFIX"+on, pl.of+"user")
	ok("ada", "CACHE.HOTKEYS FOR 0.5"+on, "coverage")
	ok("ada", "CACHE.SLOW"+on, "coverage")
	ok("ada", "CACHE.LATENCY"+on, "p99")
	ok("ada", "CACHE.CLIENTS BY name"+on, "conns")
	ok("ada", "CACHE.KEY EXPLAIN "+key+on, "string")
	ok("ada", "CACHE.EVICTION EXPLAIN"+on, "noeviction")
	ok("ada", "CACHE.CONFIG DIFF"+on, "coverage")
	ok("ada", "CACHE.MONITOR FOR 0.2"+on, "coverage")
	ok("ada", "CACHE.AUDIT TOP 100", "CACHE.MONITOR")
	job := id(ok("ada", "CACHE.HOTKEYS FOR 50"+on+" ASYNC", "j-"), "j")
	ok("ada", "CACHE.JOB LIST", job)
	ok("ada", "CACHE.JOB CANCEL "+job, "OK")
	if out, good := calls("ada", "CACHE.JOB TAIL "+job); good || !strings.Contains(out, "was cancelled by ada") {
		t.Errorf("a cancelled job: %s", out)
	}

	temp := "CACHE.CONFIG TEMP SET hz 42 FOR 1h REASON test" + on
	approve := func(out string) string {
		t.Helper()
		p := id(out, "p")
		ok("bob", "CACHE.APPROVALS", p)
		ok("bob", "CACHE.APPROVE "+p, "OK")
		return p
	}
	out, _ := calls("ada", temp)
	lease := id(ok("ada", temp+" APPROVAL "+approve(out), "applied"), "l")
	out, _ = calls("ada", "CACHE.CONFIG TEMP EXTEND "+lease+" FOR 2h REASON longer")
	ok("ada", "CACHE.CONFIG TEMP EXTEND "+lease+" FOR 2h REASON longer APPROVAL "+approve(out), "held")
	ok("ada", "CACHE.CONFIG TEMP LIST", lease)
	ok("ada", "CACHE.CONFIG TEMP REVERT "+lease, "reverted")

	unlink := "CACHE.UNLINK MATCH " + pl.of + "user:1* CAPTURE 1mb" + on
	work := id(ok("ada", unlink+" APPROVAL "+approve(ok("ada", unlink+" DRYRUN", "planned")), "done"), "b")
	if n := s.Must("EXISTS", pl.of+"user:1", pl.of+"user:19"); n.Int != 0 {
		t.Errorf("%d of 2 keys are left", n.Int)
	}
	undo := "CACHE.UNDO " + work
	ok("ada", undo+" APPROVAL "+approve(ok("ada", undo+" DRYRUN", "planned")), "done")
	if n := s.Must("STRLEN", pl.of+"user:19"); n.Int != 1900 {
		t.Errorf("%d bytes are back, want 1900", n.Int)
	}
	expire := "CACHE.EXPIRE MATCH " + pl.of + "user:2* TTL 1h" + on
	ok("ada", expire+" APPROVAL "+approve(ok("ada", expire+" DRYRUN", "planned")), "done")
	if n := s.Must("TTL", pl.of+"user:2"); n.Int < 3000 {
		t.Errorf("it expires in %d s", n.Int)
	}
	ok("ada", "CACHE.BULK LIST", work)
	if out, good := calls("ada", "CACHE.BULK RESUME "+work); good || !strings.Contains(out, "only what was interrupted is carried on") {
		t.Errorf("resumed what is done: %s", out)
	}

	drain := "CACHE.DRAIN " + s.Addr()
	gone := id(ok("ada", drain+" APPROVAL "+approve(ok("ada", drain+" DRYRUN", "planned")), "drained"), "d")
	if s.Info("role") == "master" {
		t.Error("it is drained, and a primary")
	}
	ok("ada", "CACHE.DRAINS", gone)
	ok("ada", "CACHE.RESUME "+gone, "resumed")

	ok("ada", "CACHE.CMD CHECK BUNDLE", "CACHE.X.NOTTL")
	ok("ada", "CACHE.CMD PUT BUNDLE", "CACHE.X.NOTTL")
	ok("ada", "CACHE.CMD SHOW CACHE.X.NOTTL", "manifest")
	if out, good := calls("ada", "CACHE.CMD DIFF CACHE.X.NOTTL"); good || !strings.Contains(out, "no other version") {
		t.Errorf("one version, compared with another: %s", out)
	}
	ok("ada", "CACHE.CMD SHADOW CACHE.X.NOTTL"+on+" WITH *", "wall_ms")
	if _, err := exec.LookPath("redis-check-rdb"); err == nil {
		ok("ada", "CACHE.CMD TEST CACHE.X.NOTTL", "passed")
	} else {
		t.Skip("skipped in part: there is no Redis in the path to test a bundle on")
	}
	ok("ada", "CACHE.CMD PROMOTE CACHE.X.NOTTL", "active")
	ok("ada", "CACHE.CMD LIST", "CACHE.X.NOTTL")
	ok("ada", "CACHE.X.NOTTL *"+on, "user")
	ok("ada", "CACHE.CMD ROLLBACK CACHE.X.NOTTL", "CACHE.X.NOTTL")
}
