package labtest

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kernwave/kernwave/internal/lab"
)

// buildCLI builds kernwave-lab for this test.
func buildCLI(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "kernwave-lab")
	cmd := exec.Command("go", "build", "-o", bin, "github.com/kernwave/kernwave/cmd/kernwave-lab")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return bin
}

// leftovers are processes, mounts and loop devices that have to do with a folder.
func leftovers(dir string) []string {
	var out []string
	procs, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range procs {
		cwd, _ := os.Readlink(p + "/cwd")
		root, _ := os.Readlink(p + "/root")
		args, _ := os.ReadFile(p + "/cmdline")
		if strings.HasPrefix(cwd, dir) || strings.HasPrefix(root, dir) || strings.Contains(string(args), dir) {
			out = append(out, p+" "+strings.ReplaceAll(string(args), "\x00", " "))
		}
	}
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, dir) {
			out = append(out, line)
		}
	}
	loops, _ := filepath.Glob("/sys/block/loop*/loop/backing_file")
	for _, l := range loops {
		if file, _ := os.ReadFile(l); strings.HasPrefix(string(file), dir) {
			out = append(out, l)
		}
	}
	return out
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(lab.BootLimit); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited %s for: %s", lab.BootLimit, what)
		}
	}
}

func nothingLeft(t *testing.T, dir string) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		left := leftovers(dir)
		if len(left) == 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("left behind:\n%s", strings.Join(left, "\n"))
		}
	}
}

func TestVMCommandLine(t *testing.T) {
	Images(t)
	bin, dir := buildCLI(t), t.TempDir()
	run := func(args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), bin, append([]string{args[0], "--dir", dir}, args[1:]...)...)
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v: %v", args, err)
		}
		return string(out)
	}
	defer exec.Command(bin, "down", "--dir", dir).Run()
	run("up", "--hosts", "1", "--memory", "384")
	var status struct {
		Fleet struct {
			Hosts []struct {
				Name string
				Up   bool
			}
		}
	}
	if err := json.Unmarshal([]byte(run("status", "-o", "json")), &status); err != nil || len(status.Fleet.Hosts) != 1 || !status.Fleet.Hosts[0].Up {
		t.Errorf("status is %+v, %v; want one host, up", status, err)
	}
	if out, err := exec.Command(bin, "up", "--dir", dir).CombinedOutput(); err == nil || !strings.Contains(string(out), "kernwave-lab down") {
		t.Errorf("a second up in the same folder: %v, %s", err, out)
	}
	if got := run("exec", "lab-1", "--", "cat", "/sys/class/dmi/id/product_name"); got != "Lab Model A\n" {
		t.Errorf("exec printed %q", got)
	}
	err := exec.Command(bin, "exec", "--dir", dir, "lab-1", "--", "exit 9").Run()
	if e, ok := err.(*exec.ExitError); !ok || e.ExitCode() != 9 {
		t.Errorf("exec of exit 9: %v", err)
	}
	if got := run("console", "lab-1"); !strings.Contains(got, "KERNWAVE-LAB boot") {
		t.Errorf("console printed %q", got)
	}
	run("network", "lab-1", "cut")
	run("reset", "lab-1", "--wait")
	run("down")
	nothingLeft(t, dir)
}

func TestVMInterrupted(t *testing.T) {
	Images(t)
	bin := buildCLI(t)
	qemuRuns := func(dir string) bool { return strings.Contains(strings.Join(leftovers(dir), "\n"), "qemu-system") }

	for _, c := range []struct {
		what string
		sig  syscall.Signal
		who  string // whom the signal goes to: the command, or the process in the background
	}{
		{"interrupt", syscall.SIGINT, "up"},
		{"terminate", syscall.SIGTERM, "up"},
		{"kill", syscall.SIGKILL, "up"},
		{"kill the holder", syscall.SIGKILL, "hold"},
	} {
		t.Run(c.what, func(t *testing.T) {
			dir := t.TempDir()
			up := exec.Command(bin, "up", "--dir", dir, "--hosts", "1", "-q")
			if err := up.Start(); err != nil {
				t.Fatal(err)
			}
			eventually(t, "a machine", func() bool { return qemuRuns(dir) })
			pid := up.Process.Pid
			if c.who == "hold" {
				s, err := lab.ReadState(dir)
				if err != nil {
					t.Fatal(err)
				}
				pid = s.Owner.PID
			}
			if err := syscall.Kill(pid, c.sig); err != nil {
				t.Fatal(err)
			}
			if err := up.Wait(); err == nil {
				t.Error("the interrupted command says that all is well")
			}
			nothingLeft(t, dir)
		})
	}

	t.Run("kill an image build", func(t *testing.T) {
		cache := t.TempDir()
		for _, name := range []string{"kernels", "kernels.json"} { // not what is tested, and large
			if err := os.Symlink(filepath.Join(lab.DefaultCacheDir(), name), filepath.Join(cache, name)); err != nil {
				t.Fatal(err)
			}
		}
		for _, step := range []string{"bootstrap Debian", "build image"} {
			ctx, cancel := context.WithCancel(t.Context())
			prepare := exec.CommandContext(ctx, bin, "prepare", "--cache", cache)
			progress, err := prepare.StderrPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := prepare.Start(); err != nil {
				t.Fatal(err)
			}
			var said strings.Builder
			buf := make([]byte, 4096)
			for !strings.Contains(said.String(), step) {
				n, err := progress.Read(buf)
				said.Write(buf[:n])
				if err != nil {
					t.Fatalf("%v before %q:\n%s", err, step, said.String())
				}
			}
			time.Sleep(3 * time.Second) // into the middle: chroots, mounts, dpkg
			cancel()
			_ = prepare.Wait()
			nothingLeft(t, cache)
		}
		if out, err := exec.Command(bin, "prepare", "--cache", cache).CombinedOutput(); err != nil {
			t.Fatalf("a build after two killed ones: %v\n%s", err, out)
		}
		left, _ := filepath.Glob(filepath.Join(cache, "*", ".unfinished-*"))
		if len(left) > 0 {
			t.Errorf("left in the cache: %v", left)
		}
	})
}
