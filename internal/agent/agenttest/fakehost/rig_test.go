package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/agent"
	"github.com/kernwave/kernwave/internal/agent/agenttest"
	"github.com/kernwave/kernwave/internal/agent/disk"
	"github.com/kernwave/kernwave/internal/cli/clitest"
)

const (
	oldRelease = "6.1.0-1-cloud-amd64"
	newRelease = "6.1.0-2-cloud-amd64"
	// patience is for a busy machine: nothing here takes long by itself.
	patience = 5 * time.Minute
)

var bin string // directory with kernwave, fakehost and faultserver

func TestMain(m *testing.M) {
	code := func() int {
		dir, err := os.MkdirTemp("", "kernwave-fakehost-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		bin = dir
		for name, pkg := range map[string]string{
			"kernwave": "../../../../cmd/kernwave", "fakehost": ".", "faultserver": "../../../cli/clitest/faultserver",
		} {
			if out, err := exec.Command("go", "build", "-o", filepath.Join(dir, name), pkg).CombinedOutput(); err != nil {
				fmt.Fprintf(os.Stderr, "build %s: %v\n%s", name, err, out)
				return 1
			}
		}
		// The tests wait for processes that wait for each other; two at once, on two cores, would idle.
		flag.Parse()
		if err := flag.Set("test.parallel", "8"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	}()
	os.Exit(code)
}

// rig is a real control plane and real agents, each a process, on machines made of nothing.
type rig struct {
	t     *testing.T
	dir   string
	token string
	pin   string
	addr  string
	args  []string // of the server: its program and what it is told besides

	server *proc
	kept   *keeper // of the server; nil: nobody starts it again
	hosts  map[string]*fake
}

// forks is held for writing while this process has a store open: a child that is being started at that moment would
// have its lock for a moment longer.
var forks sync.RWMutex

// proc is a process whose output is kept.
type proc struct {
	cmd  *exec.Cmd
	done chan struct{}
	out  *output
}

type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

func startProc(t *testing.T, out *output, name string, args ...string) *proc {
	t.Helper()
	p := &proc{cmd: exec.Command(filepath.Join(bin, name), args...), done: make(chan struct{}), out: out}
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	forks.RLock()
	err := p.cmd.Start()
	forks.RUnlock()
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait() // how it ended is the test's doing
		close(p.done)
	}()
	return p
}

func (p *proc) signal(s syscall.Signal) { _ = p.cmd.Process.Signal(s) }

func (p *proc) kill(s syscall.Signal) {
	p.signal(s)
	<-p.done
}

func newRig(t *testing.T) *rig {
	t.Helper()
	return newRigOf(t, "kernwave", "server")
}

func newRigOf(t *testing.T, server ...string) *rig {
	t.Helper()
	r := &rig{t: t, dir: t.TempDir(), args: server, addr: "127.0.0.1:0", hosts: map[string]*fake{}}
	r.startServer()
	t.Cleanup(func() {
		for _, h := range r.hosts {
			h.end()
		}
		r.endServer()
		if t.Failed() {
			t.Logf("server:\n%s", tailOf(r.server.out.String()))
			for n, h := range r.hosts {
				if h.kept == nil { // else the proof showed what matters
					t.Logf("%s:\n%s", n, tailOf(h.out.String()))
				}
			}
		}
	})
	var tok struct {
		Token    string `json:"token"`
		CASHA256 string `json:"ca_sha256"`
	}
	r.json(&tok, "token", "create", "--uses", "1000")
	r.token, r.pin = tok.Token, tok.CASHA256
	return r
}

func tailOf(s string) string {
	lines := strings.Split(s, "\n")
	return strings.Join(lines[max(0, len(lines)-40):], "\n")
}

func (r *rig) startServer() {
	r.t.Helper()
	_ = os.Remove(r.readyFile())
	out := &output{}
	if r.server != nil {
		out = r.server.out
	}
	r.server = startProc(r.t, out, r.args[0], r.serverArgs()...)
	r.until("the server is ready", func() bool {
		b, err := os.ReadFile(r.readyFile())
		if err != nil || len(b) == 0 {
			return false
		}
		r.addr = strings.TrimPrefix(strings.TrimSpace(string(b)), "https://")
		return true
	})
}

func (r *rig) readyFile() string { return filepath.Join(r.dir, "ready") }

func (r *rig) serverArgs() []string {
	return append(slices.Clone(r.args[1:]), "--data", filepath.Join(r.dir, "data"), "--listen", r.addr,
		"--ready-file", r.readyFile(), "--idle-pace", "1s", "--operation-pace", "300ms", "--grant-life", "10s")
}

// until waits for a condition.
func (r *rig) until(what string, ok func() bool) {
	r.t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			r.t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

// cli runs an operator's command and returns what it printed.
func (r *rig) cli(args ...string) (string, error) {
	cmd := exec.Command(filepath.Join(bin, "kernwave"), append([]string{"--config", filepath.Join(r.dir, "data")}, args...)...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	forks.RLock()
	err := cmd.Start()
	forks.RUnlock()
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		err = fmt.Errorf("kernwave %s: %w\n%s%s", strings.Join(args, " "), err, &out, &errs)
	}
	return out.String(), err
}

func (r *rig) must(args ...string) string {
	r.t.Helper()
	out, err := r.cli(args...)
	if err != nil {
		r.t.Fatal(err)
	}
	return out
}

func (r *rig) json(v any, args ...string) {
	r.t.Helper()
	if err := json.Unmarshal([]byte(r.must(append(args, "-o", "json")...)), v); err != nil {
		r.t.Fatalf("%v: %v", args, err)
	}
}

// addKernel gives the new kernel to the control plane.
func (r *rig) addKernel(release string) {
	r.t.Helper()
	file := filepath.Join(r.dir, "linux-image-"+release+".deb")
	b := clitest.Deb{Name: "linux-image-" + release, Version: "6.1.0-2", Arch: "amd64", Compression: "gz", Files: []string{"boot/vmlinuz-" + release}}.Build()
	if err := os.WriteFile(file, b, 0o600); err != nil {
		r.t.Fatal(err)
	}
	r.must("kernel", "add", file)
}

// fake is one host's process.
type fake struct {
	r    *rig
	name string
	root string
	out  *output
	proc *proc
	kept *keeper // starts it again; nil: nobody does

	rollout string // of its own
}

// host starts a host of a model. apps are files of hooks.d.
func (r *rig) host(name, model string, apps map[string]string, change func(*agenttest.Machine)) *fake {
	r.t.Helper()
	f := r.install(name, model, apps, change)
	f.start()
	return f
}

// install makes a host that is not running yet.
func (r *rig) install(name, model string, apps map[string]string, change func(*agenttest.Machine)) *fake {
	r.t.Helper()
	f := &fake{r: r, name: name, root: filepath.Join(r.dir, name), out: &output{}}
	for file, text := range map[string]string{
		"etc/kernwave/agent.yaml": fmt.Sprintf("server: https://%s\nname: %s\nca_sha256: %s\nsettle_units: 1s\nsettle_network: 2s\nlog_level: debug\n"+
			"labels: {workload: %s, datacenter: lab}\n", r.addr, name, r.pin, model),
		"etc/kernwave/token": r.token,
	} {
		f.write(file, text)
	}
	f.write("etc/kernwave/hooks.d/00-record.yaml", strings.ReplaceAll(
		"drain: {argv: [sh, -c, 'echo drain >> ROOT/service']}\nundrain: {argv: [sh, -c, 'echo undrain >> ROOT/service']}\n"+
			"ready: {argv: [sh, -c, '! test -e ROOT/down']}\n", "ROOT", f.root))
	for file, text := range apps {
		f.write("etc/kernwave/hooks.d/"+file, strings.ReplaceAll(text, "ROOT", f.root))
	}
	m := agenttest.NewMachine(oldRelease)
	m.Facts.Hardware.Model, m.Facts.MachineID, m.BootTime = model, name, 500*time.Millisecond
	if change != nil {
		change(&m)
	}
	if err := agenttest.SaveMachine(filepath.Join(f.root, "machine.json"), m); err != nil {
		r.t.Fatal(err)
	}
	r.hosts[name] = f
	return f
}

func (f *fake) write(file, text string) {
	f.r.t.Helper()
	path := filepath.Join(f.root, file)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		f.r.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		f.r.t.Fatal(err)
	}
}

func (f *fake) start(args ...string) {
	f.proc = f.launch(args...)
}

func (f *fake) launch(args ...string) *proc {
	return startProc(f.r.t, f.out, "fakehost", append([]string{"--root", f.root}, args...)...)
}

// end stops the host for good.
func (f *fake) end() {
	if f.kept != nil {
		f.kept.end()
		return
	}
	f.proc.kill(syscall.SIGTERM)
}

// service is what the host's own programs recorded, in order.
func (f *fake) service() string {
	b, err := os.ReadFile(filepath.Join(f.root, "service"))
	if err != nil {
		return ""
	}
	return strings.Join(strings.Fields(string(b)), " ")
}

func (f *fake) machine() agenttest.Machine {
	f.r.t.Helper()
	m, err := agenttest.LoadMachine(filepath.Join(f.root, "machine.json"))
	if err != nil {
		f.r.t.Fatal(err)
	}
	return m
}

// records are the host's journals.
func (f *fake) records() []agent.Record {
	f.r.t.Helper()
	rs, damaged := agent.History(disk.OS{}, filepath.Join(f.root, "var/lib/kernwave"))
	if len(damaged) > 0 {
		f.r.t.Fatal(damaged)
	}
	return rs
}

// last is the newest record; zero: none.
func (f *fake) last() agent.Record {
	rs := f.records()
	if len(rs) == 0 {
		return agent.Record{}
	}
	return rs[len(rs)-1]
}

func (f *fake) untilPhase(p fleet.Phase) agent.Record {
	f.r.t.Helper()
	f.r.until(fmt.Sprintf("%s in phase %s", f.name, p), func() bool { return f.last().Phase == p })
	return f.last()
}

func (f *fake) untilEnd() agent.Record {
	f.r.t.Helper()
	f.r.until(f.name+" at an end", func() bool { return f.last().Phase.Ended() })
	return f.last()
}

// proveGrants checks the host's own journals: each reboot into a trial under a live grant, on an answer younger than
// five seconds; and its boot record: every other boot is a way back.
func (f *fake) proveGrants() {
	f.r.t.Helper()
	trials := map[string]bool{}
	for _, x := range f.records() {
		if x.ConfirmAsked == 0 {
			continue
		}
		trials[x.RebootBootID] = true
		if x.RebootBegan-x.ConfirmAsked >= fleet.ConfirmLife {
			f.r.t.Errorf("%s: reboot %s after the asking", f.name, x.RebootBegan-x.ConfirmAsked)
		}
		if x.GrantBootID != x.RebootBootID || x.RebootBegan >= x.GrantUntil {
			f.r.t.Errorf("%s: reboot without a live grant: %+v", f.name, x)
		}
	}
	m := f.machine()
	for i, b := range m.Boots {
		if b.Trial != "" && (i == 0 || !trials[m.Boots[i-1].BootID]) {
			f.r.t.Errorf("%s: boot %s is a trial that the journal does not know", f.name, b.BootID)
		}
	}
}
