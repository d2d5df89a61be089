package sim

import (
	"fmt"
	"time"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/agent"
)

// machine is what a host is without its agent: boot loader, kernels, power. All but disk ends with the boot.
type machine struct {
	disk bootDisk

	boots    int
	bootID   string
	bootedAt time.Duration
	running  string
	trial    *trialBoot // when the one-shot entry was booted
	passed   bool       // the dead-man was told that the checks passed
	on       bool       // has power
	hung     bool
	netLost  bool // by its kernel
	panics   int  // in a row, without a boot that came up
}

// bootDisk is what the boot loader reads, and what is found after a boot.
type bootDisk struct {
	def       string
	installed bool // the new kernel is there
	oneShot   *trialBoot
	proven    bool
	deadMan   fleet.OperationID // fired in its trial
}

type trialBoot struct {
	op       fleet.OperationID
	release  string
	deadline time.Duration
}

// newKernel says whether the kernel that runs is the one that is rolled out.
func (h *host) newKernel() bool { return h.m.running == newRelease }

// boot switches the machine on, or starts it again.
func (h *host) boot() {
	w, m := h.w, &h.m
	m.boots++
	m.bootID = fmt.Sprintf("%s-%d", h.name, m.boots)
	m.bootedAt, m.on, m.hung, m.netLost, m.passed = w.now, true, false, false, false
	m.running, m.trial = m.disk.def, nil
	if t := m.disk.oneShot; t != nil {
		m.running, m.trial, m.disk.oneShot = t.release, t, nil
		w.sawTrialBoot(h, t)
	}
	f := KernelFault{}
	if h.newKernel() {
		f = h.typ.Kernel
	}
	life := h.newLife()
	takes := h.rnd.about(h.typ.Boot) + f.SlowBoot
	if f.SlowBoot > 0 {
		w.faulted("kernel-slow-boot")
	}
	if t := m.trial; t != nil {
		w.after(t.deadline, func() {
			if h.life == life && !m.passed {
				m.disk.deadMan = t.op
				w.faulted("dead-man")
				h.down("the dead-man")
			}
		})
	}
	h.note("boots", m.running)
	if w.onBoot != nil {
		w.onBoot(h)
	}
	switch {
	case f.Boots == "hang":
		w.after(takes/2, h.ifAlive(life, func() { h.harm("hang"); h.hang("at boot") }))
		return
	case f.Boots == "panic", f.BootsOneIn > 1 && h.rnd.IntN(f.BootsOneIn) != 0:
		w.after(takes/2, h.ifAlive(life, func() {
			h.harm("panic")
			w.faulted("kernel-panic")
			if m.panics++; m.panics >= 5 {
				m.on = false
				h.note("panics again and again: off until somebody comes")
				h.w.lostMachine(h)
				return
			}
			h.down("a panic")
		}))
		return
	}
	w.after(takes, h.ifAlive(life, h.up))
	if f.CrashEvery > 0 {
		w.after(takes+h.rnd.within(f.CrashEvery), h.ifAlive(life, func() { h.harm("crash"); w.faulted("kernel-crash"); h.down("a panic") }))
	}
	if f.HangAfter > 0 {
		w.after(takes+h.rnd.within(f.HangAfter), h.ifAlive(life, func() { h.harm("hang"); w.faulted("kernel-hang"); h.hang("later") }))
	}
	if f.NetworkLostAfter != nil {
		w.after(*f.NetworkLostAfter, h.ifAlive(life, func() { h.harm("network"); w.faulted("kernel-network"); m.netLost = true; h.note("has no network") }))
	}
}

// ifAlive is f, as long as this life lasts.
func (h *host) ifAlive(life int, f func()) func() {
	return func() {
		if h.life == life {
			f()
		}
	}
}

// newLife ends everything that was begun in this one: the boot has ended, or the agent's process.
func (h *host) newLife() int {
	h.life++
	h.process++
	h.agentUp = false
	h.seq = 0
	return h.life
}

// down ends the boot, and the machine starts again.
func (h *host) down(why string) {
	h.note("goes down:", why)
	h.leaves("is down: " + why)
	h.newLife()
	h.boot()
}

// hang stops everything; the watchdog ends it, where there is one.
func (h *host) hang(when string) {
	h.note("hangs", when)
	h.leaves("hangs")
	life := h.newLife()
	h.m.hung = true
	if h.typ.Watchdog >= 0 {
		h.w.after(h.typ.Watchdog, h.ifAlive(life, func() { h.down("the watchdog") }))
		return
	}
	h.w.lostMachine(h)
}

// off takes its power away for good.
func (h *host) off(why string) {
	h.note("is off:", why)
	h.leaves("is off")
	h.newLife()
	h.m.on = false
	h.w.lostMachine(h)
}

// up is the moment at which the agent starts.
func (h *host) up() {
	h.m.panics = 0
	h.agentUp = true
	h.startAgent()
}

// moment is the time and place on h.
func (h *host) moment() agent.Moment {
	n := agent.Moment{Uptime: h.w.now - h.m.bootedAt, BootID: h.m.bootID, Release: h.m.running, Wall: h.w.time().Add(h.wall)}
	if h.newKernel() && h.typ.Kernel.WrongRelease {
		n.Release += ".wrong"
	}
	if h.m.trial != nil {
		n.TrialBoot = h.m.trial.op
	}
	return n
}

// facts are what the agent finds out.
func (h *host) facts() fleet.Facts {
	f := fleet.Facts{
		Hardware: fleet.Hardware{Vendor: "Kernwave", Model: h.typ.Name, Serial: h.name},
		CPU:      fleet.CPU{Model: "simulated", Cores: 2}, MemoryBytes: 1 << 30,
		OS: fleet.OS{ID: "debian", Version: "12", Codename: "bookworm", Family: "debian"}, Arch: "amd64",
		Kernel:    fleet.Running{Release: h.moment().Release, Flavour: "cloud-amd64"},
		Boot:      fleet.Boot{Loader: "grub", Firmware: "bios", OneShot: fleet.OneShotAssumed, Default: h.m.disk.def, Installed: []string{oldRelease}},
		MachineID: h.machineID, AgentVersion: "sim",
		Labels: fleet.Labels{"workload": h.typ.Workload, "datacenter": h.dc, "rack": h.rack},
	}
	switch {
	case h.unable:
		f.Boot.OneShot, f.Boot.OneShotWhy = fleet.OneShotImpossible, "grub reads its environment from a RAID"
	case h.m.disk.proven:
		f.Boot.OneShot = fleet.OneShotProven
	}
	if h.m.disk.installed {
		f.Boot.Installed = append(f.Boot.Installed, newRelease)
	}
	return f
}
