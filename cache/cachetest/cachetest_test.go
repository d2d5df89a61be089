package cachetest

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

func TestTopologies(t *testing.T) {
	for _, v := range Two(t) {
		t.Run(v.Name, func(t *testing.T) {
			t.Run("sentinel", func(t *testing.T) {
				t.Parallel()
				g := StartSentinel(t, v, "main", 1)
				g.Primary.Must("SET", "k", "v")
				g.Primary.Must("WAIT", "1", "5000")
				if got := g.Replicas[0].Must("GET", "k").Str; got != "v" {
					t.Errorf("the replica holds %q", got)
				}
			})
			t.Run("cluster", func(t *testing.T) {
				t.Parallel()
				c := StartCluster(t, v, 3, 1)
				c.Of(t, "k").Must("SET", "k", "v")
			})
		})
	}
}

// TestKillAndRestart: a server comes back on its port.
func TestKillAndRestart(t *testing.T) {
	s := Start(t, Any(t))
	s.Kill()
	if _, err := s.Do("PING"); err == nil {
		t.Fatal("a killed server answers")
	}
	s.Restart()
	s.Must("PING")
	out, err := s.Version.CLI("-h", s.Host, "-p", s.Addr()[len(s.Host)+1:], "PING").CombinedOutput()
	if err != nil || string(out) != "PONG\n" {
		t.Errorf("the command line says %q, %v", out, err)
	}
}

// TestKillEndsItsChildren: a server that is saving has a child, which would go on writing into a directory that is being removed.
func TestKillEndsItsChildren(t *testing.T) {
	s := Start(t, Any(t))
	s.Must("DEBUG", "POPULATE", "10000")
	s.Must("CONFIG", "SET", "rdb-key-save-delay", "10000") // microseconds a key: it saves for 100 s
	s.Must("BGSAVE")
	name := fmt.Sprintf("/proc/%d/task/%[1]d/children", s.PID())
	var children []string
	Eventually(t, "it has a child", func() bool {
		b, err := os.ReadFile(name)
		children = strings.Fields(string(b))
		return err == nil && len(children) > 0
	})
	s.Kill()
	for _, c := range children {
		stat, err := os.ReadFile("/proc/" + c + "/stat")
		if err == nil && !strings.Contains(string(stat), ") Z ") {
			t.Errorf("the child goes on: %.60s", stat)
		}
	}
}
