package linux

import (
	"context"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kernwave/kernwave/deploy"
	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/linux/efivar"
)

// Level says how bad a finding is.
type Level string

const (
	OK   Level = "ok"
	Warn Level = "warn" // takes part, with less of a safety net
	Fail Level = "fail" // is refused
)

// Finding is one thing that the doctor looked at.
type Finding struct {
	Name  string
	Level Level
	Saw   string
	Next  string // how to mend it; empty when there is nothing to mend
}

// Doctor looks whether the host can take part, and at what its safety net lacks. It changes nothing.
func (h *Host) Doctor(ctx context.Context) []Finding {
	var fs []Finding
	add := func(name string, l Level, saw, next string) { fs = append(fs, Finding{name, l, saw, next}) }

	if os.Geteuid() == 0 {
		add("root", OK, "runs as root", "")
	} else {
		add("root", Fail, "does not run as root", "run it with sudo")
	}
	if err := h.supported(); err != nil {
		add("system", Fail, err.Error(), fleet.NextOf(err, "leave the host out of the selection"))
	} else {
		o := parseOSRelease(h.text("/etc/os-release"))
		add("system", OK, o.ID+" "+o.Version+", packages of the family "+o.Family, "")
	}
	fs = append(fs, h.doctorBoot()...)
	fs = append(fs, h.doctorSpace())
	if err := h.packages.Healthy(ctx); err != nil {
		add("packages", Fail, err.Error(), "let others finish; then run: dpkg --configure -a; apt-get -f install")
	} else {
		add("packages", OK, "dpkg is not locked and nothing is half installed", "")
	}
	if missing, err := deploy.Missing(deploy.Options{Root: h.root}); err != nil || len(missing) > 0 {
		add("dead-man", Fail, "not installed as it must be: "+strings.Join(missing, ", "), "run: kernwave-agent install")
	} else {
		add("dead-man", OK, "installed and enabled", "")
	}
	return append(fs, h.doctorNet()...)
}

func (h *Host) doctorBoot() []Finding {
	b := h.bootFacts()
	running, err := h.Release()
	if err != nil {
		return []Finding{{"kernel", Fail, err.Error(), "is /proc mounted?"}}
	}
	fs := []Finding{h.doctorLoader(b)}
	switch b.OneShot {
	case fleet.OneShotAssumed, fleet.OneShotProven:
		fs = append(fs, Finding{"one-shot", OK, string(b.OneShot) + ": " + b.OneShotWhy, ""})
	default:
		next := "move /boot to a plain partition with ext4, or leave the host out of the selection"
		if b.Loader != "grub" {
			next = "mend what it says, or leave the host out of the selection"
		}
		fs = append(fs, Finding{"one-shot", Fail, b.OneShotWhy, next})
	}
	switch b.Default {
	case running:
		fs = append(fs, Finding{"default-entry", OK, "a plain boot runs the running kernel, " + running, ""})
	case "":
		next := "look at /boot/grub/grub.cfg, then run update-grub"
		if b.Loader != "grub" {
			next = "look at the loader's entries: bootctl list"
		}
		fs = append(fs, Finding{"default-entry", Fail, "cannot tell which kernel a plain boot runs", next})
	default:
		fs = append(fs, Finding{"default-entry", Warn, "a plain boot runs " + b.Default + ", not the running kernel " + running, "nothing: the agent makes the running kernel the default before it installs another"})
	}
	return append(fs, h.doctorWayBack(running)...)
}

// doctorLoader names firmware and loader, and whether the firmware wants signatures.
func (h *Host) doctorLoader(b fleet.Boot) Finding {
	if b.Loader == "" {
		return Finding{"boot-loader", Fail, b.OneShotWhy, "leave the host out of the selection"}
	}
	saw := b.Loader + " on " + b.Firmware
	if on, known := efivar.SecureBoot(h.root); known && on {
		return Finding{"boot-loader", Warn, saw + ", Secure Boot is on: the firmware starts signed kernels only, and whether a kernel is signed is not checked here", "roll out kernels that are signed by a key of this firmware"}
	} else if known {
		saw += ", Secure Boot is off"
	}
	return Finding{"boot-loader", OK, saw, ""}
}

// doctorWayBack says what would be refused, and what would be mended.
func (h *Host) doctorWayBack(running string) []Finding {
	ps, err := h.bootProblems(running)
	if err != nil {
		return []Finding{{"way-back", Fail, err.Error(), fleet.NextOf(err, "mend what it says, or leave the host out of the selection")}}
	}
	var fs []Finding
	for _, p := range ps {
		if p.Mends {
			fs = append(fs, Finding{"way-back", OK, "the agent will mend before a trial: " + p.What, ""})
		} else {
			fs = append(fs, Finding{"way-back", Fail, p.What, p.Next})
		}
	}
	return fs
}

// lowBoot is how little of /boot is too little to try: a kernel with its initrd takes 40 to 150 MiB.
const lowBoot = 128 << 20

func (h *Host) doctorSpace() Finding {
	var st unix.Statfs_t
	if err := unix.Statfs(h.path("/boot"), &st); err != nil {
		return Finding{"boot-space", Fail, fmt.Sprintf("look how full /boot is: %v", err), "is /boot mounted?"}
	}
	free := st.Bavail * uint64(st.Bsize)
	saw := fmt.Sprintf("%d MiB are free in /boot", free>>20)
	if free < lowBoot {
		return Finding{"boot-space", Warn, saw, "remove kernels that are not used any more: apt-get autoremove --purge"}
	}
	return Finding{"boot-space", OK, saw, ""}
}

// doctorNet looks at the safety net: what turns a dead kernel into a reboot, and what it leaves behind.
func (h *Host) doctorNet() []Finding {
	var fs []Finding
	switch dog := h.watchdog(); {
	case dog == "":
		fs = append(fs, Finding{"watchdog", Warn, "there is no watchdog: a kernel that hangs stays so until someone resets the machine", "load the driver of the machine's watchdog at boot (/etc/modules-load.d), in each kernel"})
	case strings.EqualFold(h.text("/sys/class/watchdog/watchdog0/state"), "active"):
		fs = append(fs, Finding{"watchdog", OK, dog + ", armed", ""})
	default:
		fs = append(fs, Finding{"watchdog", OK, dog + "; systemd arms it in a trial", ""})
	}
	if backend := h.text("/sys/module/pstore/parameters/backend"); backend == "" || backend == "(null)" {
		fs = append(fs, Finding{"pstore", Warn, "no pstore backend: the text of a panic is lost", "load ramoops or efi_pstore at boot (/etc/modules-load.d)"})
	} else {
		fs = append(fs, Finding{"pstore", OK, "backend " + backend, ""})
	}
	if s := h.text("/proc/sys/kernel/panic"); s == "0" || s == "" {
		fs = append(fs, Finding{"panic", OK, "the running kernel stays when it panics; a kernel on trial reboots after 30 s", ""})
	} else {
		fs = append(fs, Finding{"panic", OK, "the running kernel reboots " + s + " s after a panic; one on trial after 30 s", ""})
	}
	if h.text("/sys/kernel/kexec_loaded") == "1" {
		fs = append(fs, Finding{"kexec", Warn, "a kernel is loaded for kexec: a plain systemctl reboot would go past the boot loader", "nothing for the agent, which unloads it; for yourself: kexec -u"})
	} else {
		fs = append(fs, Finding{"kexec", OK, "no kernel is loaded for kexec", ""})
	}
	const hooks = "/etc/kernwave/hooks.d"
	if fi, err := os.Stat(h.path(hooks)); err != nil || !fi.IsDir() {
		return append(fs, Finding{"hooks", Warn, "there is no " + hooks + ": nothing is drained and nothing of yours is checked", "put drain, undrain, ready and check programs there"})
	}
	return append(fs, Finding{"hooks", OK, hooks + " is there", ""})
}

// watchdog names the first watchdog; empty: there is none.
func (h *Host) watchdog() string {
	if !h.exists("/sys/class/watchdog/watchdog0") {
		return ""
	}
	if id := h.text("/sys/class/watchdog/watchdog0/identity"); id != "" {
		return id
	}
	return "a watchdog"
}
