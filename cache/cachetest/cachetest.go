// Package cachetest starts real Redis and Valkey servers for tests, benchmarks and the demo: one node, a primary with
// replicas, a group that Sentinel watches, a cluster. It takes every version that it finds: the host's own, and those
// that scripts/cache-servers.sh unpacked. All of it listens on loopback and ends with the process that started it.
package cachetest

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
)

// Version is one server program.
type Version struct {
	Name   string // redis-7.0, valkey-8.1
	Full   string // 7.0.15
	Valkey bool
	tree   string // of the Debian release it is from; empty: the host's own
	binary string
}

// Releases are the trees that scripts/cache-servers.sh makes.
var releases = []string{"trixie", "forky", "experimental"}

// Dir is where the trees are.
func Dir() string {
	if d := os.Getenv("KERNWAVE_SERVERS"); d != "" {
		return d
	}
	d, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	return filepath.Join(d, "kernwave", "servers")
}

// Versions returns what this machine has, Redis first, oldest first. It is empty where there is no server at all.
var Versions = sync.OnceValue(func() []Version {
	var list []Version
	add := func(v Version) {
		if full := v.ask(); full != "" {
			v.Full = full
			parts := strings.SplitN(full, ".", 3)
			v.Name = flavour(v.Valkey) + "-" + strings.Join(parts[:min(2, len(parts))], ".")
			if !slices.ContainsFunc(list, func(o Version) bool { return o.Name == v.Name }) {
				list = append(list, v)
			}
		}
	}
	// Debian's redis-tools holds the server's program under this name, and no daemon that would start.
	for _, name := range []string{"redis-server", "redis-check-rdb"} {
		if path, err := exec.LookPath(name); err == nil {
			add(Version{binary: path})
		}
	}
	for _, r := range releases {
		tree := filepath.Join(Dir(), r)
		add(Version{tree: tree, binary: filepath.Join(tree, "usr/bin/redis-check-rdb")})
		add(Version{tree: tree, binary: filepath.Join(tree, "usr/bin/valkey-check-rdb"), Valkey: true})
	}
	slices.SortStableFunc(list, func(a, b Version) int {
		if a.Valkey != b.Valkey {
			if b.Valkey {
				return -1
			}
			return 1
		}
		return slices.Compare(numbers(a.Full), numbers(b.Full))
	})
	return list
})

func flavour(valkey bool) string {
	if valkey {
		return "valkey"
	}
	return "redis"
}

func numbers(s string) []int {
	var out []int
	for p := range strings.SplitSeq(s, ".") {
		n := 0
		for _, c := range p {
			if c < '0' || c > '9' {
				break
			}
			n = n*10 + int(c-'0')
		}
		out = append(out, n)
	}
	return out
}

var versionLine = regexp.MustCompile(`v=(\d+\.\d+\.\d+)`)

// ask returns the version that the program says it is; empty: it does not run.
func (v Version) ask() string {
	if _, err := os.Stat(v.binary); err != nil {
		return ""
	}
	out, err := v.command("server", "--version").Output()
	if err != nil {
		return ""
	}
	if m := versionLine.FindSubmatch(out); m != nil {
		return string(m[1])
	}
	return ""
}

// command runs one of the program's faces: server, sentinel. It is one binary that looks at the name it is called by.
func (v Version) command(face string, args ...string) *exec.Cmd {
	return v.run(v.binary, flavour(v.Valkey)+"-"+face, args...)
}

// CLI is the version's redis-cli or valkey-cli, not started.
func (v Version) CLI(args ...string) *exec.Cmd {
	name := flavour(v.Valkey) + "-cli"
	path := filepath.Join(filepath.Dir(v.binary), name)
	return v.run(path, name, args...)
}

func (v Version) run(binary, name string, args ...string) *exec.Cmd {
	if v.tree == "" {
		cmd := exec.Command(binary, args...)
		cmd.Args[0] = name
		return cmd
	}
	// The tree's loader runs the program with the tree's libraries: no chroot, no root.
	triplet := map[string]string{"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}[runtime.GOARCH]
	lib := filepath.Join(v.tree, "usr/lib", triplet)
	loader := filepath.Join(lib, map[string]string{"amd64": "ld-linux-x86-64.so.2", "arm64": "ld-linux-aarch64.so.1"}[runtime.GOARCH])
	full := append([]string{"--argv0", name, "--library-path", lib, binary}, args...)
	return exec.Command(loader, full...)
}

// TB is what the package needs of a test; the demo has one of its own.
type TB interface {
	Helper()
	Cleanup(func())
	Fatalf(format string, args ...any)
	Skipf(format string, args ...any)
	Logf(format string, args ...any)
	TempDir() string
}

// Newest returns the newest Redis or Valkey, or skips the test and says what to do.
func Newest(t TB, valkey bool) Version {
	t.Helper()
	for _, v := range slices.Backward(Versions()) {
		if v.Valkey == valkey {
			return v
		}
	}
	t.Skipf("skipped: there is no %s on this machine; apt-get install redis-tools, and scripts/cache-servers.sh fetches the others", flavour(valkey))
	return Version{}
}

// Any returns the oldest version, which is the host's own where it has one, or skips the test.
func Any(t TB) Version {
	t.Helper()
	if all := Versions(); len(all) > 0 {
		return all[0]
	}
	t.Skipf("skipped: there is neither Redis nor Valkey on this machine; apt-get install redis-tools")
	return Version{}
}

// Two are the versions that short tests run on: the oldest Redis and the newest Valkey, or what there is of them.
func Two(t TB) []Version {
	t.Helper()
	all := Versions()
	if len(all) == 0 {
		Any(t)
	}
	if len(all) == 1 {
		t.Logf("only %s is on this machine: scripts/cache-servers.sh fetches the others", all[0].Name)
		return all
	}
	return []Version{all[0], all[len(all)-1]}
}
