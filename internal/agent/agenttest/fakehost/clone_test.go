package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kernwave/kernwave/internal/agent/agenttest"
)

// copyOf starts a machine from a copy of f's disk: another boot, and, where serial is not empty, other hardware. It is
// reached by its name in r.hosts alone: to the control plane it is f.
func (r *rig) copyOf(f *fake, name, serial string) *fake {
	r.t.Helper()
	c := &fake{r: r, name: name, root: filepath.Join(r.dir, name), out: &output{}}
	// The machine runs: a file that is replaced while cp is at it is gone, and it starts anew.
	for try := 1; ; try++ {
		out, err := exec.Command("cp", "-a", f.root, c.root).CombinedOutput()
		if err == nil {
			break
		}
		if try == 10 || !strings.Contains(string(out), "No such file") {
			r.t.Fatalf("copy: %v\n%s", err, out)
		}
		if err := os.RemoveAll(c.root); err != nil {
			r.t.Fatal(err)
		}
	}
	m := c.machine()
	m.BootID, m.BootedAt = name+"-boot", time.Now()
	if serial != "" {
		m.Facts.MachineID, m.Facts.Hardware.Serial = "machine-"+serial, serial
	}
	if err := agenttest.SaveMachine(filepath.Join(c.root, "machine.json"), m); err != nil {
		r.t.Fatal(err)
	}
	r.hosts[name] = c
	return c
}

type hostJSON struct {
	Host struct {
		Frozen string `json:"frozen"`
		Copied string `json:"copied"`
		Silent bool   `json:"silent"`
		Now    struct {
			BootID string `json:"boot_id"`
		} `json:"now"`
	} `json:"host"`
}

func (r *rig) show(host string) hostJSON {
	r.t.Helper()
	var h hostJSON
	out, err := r.cli("host", "show", host, "-o", "json")
	if err == nil { // else it is not there yet
		err = json.Unmarshal([]byte(out), &h)
		if err != nil {
			r.t.Error(err)
		}
	}
	return h
}

func hasAll(text string, want ...string) bool {
	for _, w := range want {
		if !strings.Contains(text, w) {
			return false
		}
	}
	return true
}

// TestCloneIsFrozenAndFreed starts a second machine from a copy of a host's disk. Both are frozen, over a restart of the
// control plane too, until the copy is a host of its own, or takes the name, or a person says that it is gone.
func TestCloneIsFrozenAndFreed(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	t.Cleanup(func() {
		if t.Failed() {
			out, err := r.cli("events", "--host", "web-1")
			t.Logf("events:\n%s%v", out, err)
		}
	})
	one := r.host("web-1", "web", nil, nil)
	r.until("web-1 is heard", func() bool { return r.show("web-1").Host.Now.BootID != "" })
	two := r.copyOf(one, "copy", "") // the same hardware ids: an image of a virtual machine
	two.start()
	r.until("web-1 is frozen", func() bool { return strings.Contains(r.show("web-1").Host.Frozen, "two machines") })
	r.server.kill(9)
	r.startServer()
	for what, want := range map[string][]string{
		"hosts":           {"frozen"},
		"host show web-1": {"two machines", "boot", "enrol --anew", "unfreeze"},
		"why web-1":       {"frozen", "enrol --anew"},
		"status":          {"1 frozen", "1 open"},
		"incidents":       {"two machines", "one machine under one certificate", "enrol --anew"},
		"budget list":     {"web-1", "frozen"},
		"events":          {"is frozen"},
	} {
		r.until(what, func() bool {
			out, err := r.cli(strings.Fields(what)...)
			return err == nil && hasAll(out, want...)
		})
	}
	r.addKernel(newRelease)
	if out, err := r.cli("rollout", "start", newRelease); err == nil || !strings.Contains(err.Error(), "frozen") {
		t.Errorf("a rollout to a frozen host: %s%v", out, err)
	}

	// The copy becomes a host of its own.
	two.proc.kill(15)
	anew := func(f *fake, args ...string) {
		t.Helper()
		p := f.launch(append([]string{"enrol", "--anew"}, args...)...)
		<-p.done
		if code := p.cmd.ProcessState.ExitCode(); code != 0 {
			t.Fatalf("enrol --anew %v: exit code %d\n%s", args, code, tailOf(f.out.String()))
		}
	}
	anew(two, "--name", "web-2")
	two.start()
	r.until("web-2 is heard", func() bool { return r.show("web-2").Host.Now.BootID != "" })
	if h := r.show("web-1").Host; h.Frozen != "" {
		t.Errorf("web-1 is still frozen: %s", h.Frozen)
	}
	if out := r.must("incidents"); strings.Contains(out, "two machines") {
		t.Errorf("the incident is open:\n%s", out)
	}

	// A copy takes the name: the other one is locked out, and told what to do.
	three := r.copyOf(one, "copy-2", "")
	three.start()
	r.until("web-1 is frozen again", func() bool { return r.show("web-1").Host.Frozen != "" })
	three.proc.kill(15)
	anew(three)
	three.start()
	r.until("web-1 is the copy", func() bool {
		h := r.show("web-1").Host
		return h.Frozen == "" && h.Now.BootID == three.machine().BootID
	})
	r.until("the other one is told", func() bool { return hasAll(one.out.String(), "was revoked", "enrol --anew") })

	// A person says that the copy is gone, and is right; then wrong.
	one.end()
	four := r.copyOf(three, "copy-3", "")
	four.start()
	r.until("web-1 is frozen a third time", func() bool { return r.show("web-1").Host.Frozen != "" })
	if out := r.must("host", "unfreeze", "web-1", "--why", "gone, they say"); !strings.Contains(out, "one machine again") {
		t.Error(out)
	}
	r.until("web-1 is frozen once more, for it is not gone", func() bool { return r.show("web-1").Host.Frozen != "" })
	four.proc.kill(15)
	r.must("host", "unfreeze", "web-1", "--why", "gone")
	if _, err := r.cli("host", "unfreeze", "web-1", "--why", "gone"); err == nil || !strings.Contains(err.Error(), "is not frozen") {
		t.Errorf("unfreezing twice: %v", err)
	}
	r.until("web-1 takes part", func() bool { return strings.Contains(r.must("hosts"), "active") && r.show("web-1").Host.Frozen == "" })
	out := r.must("rollout", "start", newRelease, "--soak", "1s", "--waves", "100", "-o", "json")
	r.until("the rollout is done", func() bool {
		list := r.must("rollout", "list")
		return strings.Contains(list, "done")
	})
	_ = out
	delete(r.hosts, "copy-3")
}

// TestCopyOnOtherHardwareKeepsAway: the agent sees by itself that the disk is a copy, and the host it was copied from
// goes on as if nothing was; a host whose hardware was replaced is kept with one command.
func TestCopyOnOtherHardwareKeepsAway(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	one := r.host("web-1", "web", nil, func(m *agenttest.Machine) {
		m.Facts.MachineID, m.Facts.Hardware.Serial, m.Facts.Hardware.Vendor = "machine-A", "A1", "Fake"
	})
	r.until("web-1 is heard", func() bool { return r.show("web-1").Host.Now.BootID != "" })
	boot := r.show("web-1").Host.Now.BootID
	two := r.copyOf(one, "copy", "B2")
	two.start()
	r.until("the copy keeps away", func() bool { return hasAll(r.show("web-1").Host.Copied, "A1", "B2") })
	r.until("its log says what to do", func() bool { return hasAll(two.out.String(), "keeps away", "enrol --anew", "enrol --moved") })
	if h := r.show("web-1").Host; h.Frozen != "" || h.Silent || h.Now.BootID != boot {
		t.Errorf("web-1: %+v", h)
	}
	p := two.launch("doctor")
	<-p.done
	if out := two.out.String(); !hasAll(out, "fail  machine", "serial A1", "serial B2") {
		t.Errorf("doctor:\n%s", tailOf(out))
	}
	// It was no copy: web-1's mainboard was replaced.
	one.end()
	two.proc.kill(15)
	p = two.launch("enrol", "--moved")
	<-p.done
	two.start()
	r.until("web-1 is back on the other hardware", func() bool {
		h := r.show("web-1").Host
		return h.Copied == "" && h.Frozen == "" && h.Now.BootID == two.machine().BootID
	})
	if b, err := os.ReadFile(filepath.Join(two.root, "var/lib/kernwave/identity.json")); err != nil || !strings.Contains(string(b), "machine-B2") {
		t.Errorf("identity: %v", err)
	}
	delete(r.hosts, "web-1")
}
