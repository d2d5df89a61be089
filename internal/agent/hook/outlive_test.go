package hook_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kernwave/kernwave/internal/agent/hook"
)

// TestProgramDoesNotOutliveItsAgent kills a process that runs a program.
func TestProgramDoesNotOutliveItsAgent(t *testing.T) {
	pidFile := os.Getenv("KERNWAVE_TEST_PID_FILE")
	if pidFile != "" { // the agent: a copy of this test's binary
		p := hook.Program{Argv: []string{"sh", "-c", "echo $$ > " + pidFile + ".new; mv " + pidFile + ".new " + pidFile + "; exec sleep 600"}, Timeout: time.Hour}
		hook.Run(t.Context(), p, hook.Env{})
		return
	}
	pidFile = filepath.Join(t.TempDir(), "pid")
	agent := exec.Command(os.Args[0], "-test.run=^TestProgramDoesNotOutliveItsAgent$")
	agent.Env = append(os.Environ(), "KERNWAVE_TEST_PID_FILE="+pidFile)
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	until(t, "the program runs", func() bool { _, err := os.Stat(pidFile); return err == nil })
	b, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		t.Fatal(err)
	}
	if err := agent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = agent.Wait()
	until(t, "the program is gone", func() bool {
		// A zombie that nobody has collected yet is gone, too.
		stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		return err != nil || strings.Contains(string(stat), ") Z ") || syscall.Kill(pid, 0) != nil
	})
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 30s: %s", what)
		}
	}
}
