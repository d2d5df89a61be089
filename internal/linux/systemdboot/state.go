package systemdboot

import (
	"fmt"
	"slices"
	"strings"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/linux/efivar"
	"github.com/kernwave/kernwave/internal/linux/loader"
)

// TrialID is the entry of a kernel on trial.
const TrialID = "kernwave-trial.conf"

// state is what was found of a host's systemd-boot, at one moment.
type state struct {
	readOnly   bool // the firmware's variables
	info       string
	bootedFrom string // UUID of the partition that the loader came from
	byDefault  string // LoaderEntryDefault
	lastBooted string
	oneShot    string
	selected   string   // what this boot came from
	timeout    string   // LoaderConfigTimeout
	timeoutOne string   // LoaderConfigTimeoutOneShot
	auto       []string // entries that the loader found by itself: other systems, the firmware's setup
	conf       Lines    // loader.conf
	esp        *Partition
	parts      []*Partition
	entries    []*Entry // in the order of the menu
	hidden     []*Entry // those that the loader does not show
	machineID  string
	// cmdlineSet says that kernel-install has a command line of its own for new entries.
	cmdlineSet bool
	canForget  fleet.OneShot
	forgetWhy  string
}

// find returns the entry that a pattern selects.
func (s state) find(pattern string) *Entry {
	i := slices.IndexFunc(s.entries, func(e *Entry) bool { return Match(pattern, e.ID) })
	if i < 0 {
		return nil
	}
	return s.entries[i]
}

// plainDefault is the entry that a boot without a one-shot entry runs; nil when that cannot be told.
//
// Source: config_select_default_entry of systemd-boot 252.
func (s state) plainDefault() *Entry {
	for _, pattern := range []string{s.byDefault, s.conf.last("default")} {
		if pattern == "@saved" {
			pattern = s.lastBooted
		}
		if e := s.find(pattern); e != nil {
			return e
		}
		if slices.ContainsFunc(s.auto, func(id string) bool { return Match(pattern, id) }) {
			return nil // another system, the firmware's setup
		}
	}
	if len(s.entries) > 0 {
		return s.entries[0]
	}
	return nil
}

// stock returns the entry of a release that is not ours: the one that this boot came from, else the one that
// kernel-install writes, else the first in the menu. One without a boot counter is preferred to its double with one.
// Entries of another installation on the same disk do not count.
func (s state) stock(release string) *Entry {
	var best *Entry
	rank := -1
	for _, e := range s.entries {
		if e.UKI() || e.Release != release || release == "" || strings.EqualFold(e.ID, TrialID) {
			continue
		}
		booted := strings.EqualFold(e.base(), baseOf(s.selected))
		if e.machineID != "" && s.machineID != "" && !strings.EqualFold(e.machineID, s.machineID) && !booted {
			continue
		}
		r := 0
		if booted {
			r += 4
		}
		if strings.HasSuffix(strings.ToLower(e.base()), "-"+strings.ToLower(release)+".conf") {
			r += 2
		}
		if e.Tries < 0 {
			r++
		}
		if r > rank {
			best, rank = e, r
		}
	}
	return best
}

type mending int

const (
	byHand     mending = iota
	byInstall          // by kernel-install
	byRewrite          // by writing the entry anew
	byBlessing         // by taking the boot counter off
	byCmdline          // by /etc/kernel/cmdline
	bySettings         // by the loader's variables
)

// A problem is one thing that stands in the way of a safe trial; next is for a person.
type problem struct {
	what string
	mend mending
	next string
}

// problems lists what keeps a plain boot, and a boot after a failed one-shot, from running the kernel running.
func (s state) problems(running string) []problem {
	var ps []problem
	add := func(m mending, next, what string, args ...any) {
		ps = append(ps, problem{fmt.Sprintf(what, args...), m, next})
	}
	if !strings.HasPrefix(strings.ToLower(s.info), "systemd-boot") {
		add(byHand, "leave the host out, or make the firmware start systemd-boot: bootctl install", "this boot did not come through systemd-boot: the firmware's variable %s is %q", efivar.Info, s.info)
	}
	if s.readOnly {
		add(byHand, "run: mount -o remount,rw "+efivar.Dir, "the firmware's variables cannot be written: efivarfs is mounted read-only")
	}
	if s.canForget == fleet.OneShotImpossible {
		add(byHand, "leave the host out, or have its firmware mended", "systemd-boot cannot forget a one-shot entry by itself: %s", s.forgetWhy)
	}
	if s.oneShot != "" && !strings.EqualFold(s.oneShot, TrialID) {
		add(byHand, "reboot, or run: bootctl set-oneshot ''", "someone else chose %q for the next boot (%s)", s.oneShot, efivar.OneShot)
	}
	if waits := s.waits(); waits != "" {
		add(byHand, "set a timeout in loader.conf, or run: bootctl set-timeout 0", "systemd-boot's menu waits for a person (%s)", waits)
	}
	for _, p := range s.parts {
		if p.ReadOnly {
			add(byHand, "look at the kernel's log: a VFAT with errors is made read-only; run fsck.vfat, then mount -o remount,rw "+p.Point, "%s is mounted read-only", p.Point)
		}
	}
	e := s.stock(running)
	if e == nil {
		if uki := s.uki(running); uki != nil {
			add(byHand, "leave the host out, or give the kernel an entry of its own (kernel-install with layout=bls)",
				"the running kernel %s boots from the unified kernel image %s: its command line is inside, and a trial's words cannot be added", running, uki.Path)
			return ps
		}
		add(byInstall, "run: kernel-install add "+running+" /boot/vmlinuz-"+running, "no entry boots the running kernel %s%s", running, s.hiddenWhy(running))
		return ps
	}
	if !plainID(e.ID) || s.find(e.ID) != e {
		add(byHand, "rename one of the two entries", "the name %q of the running kernel's entry selects another one", e.ID)
	}
	if e.Tries >= 0 {
		add(byBlessing, "run: /lib/systemd/systemd-bless-boot good", "the entry of the running kernel has a boot counter (%s): its name changes at each boot, and no default can name it", e.ID)
	}
	if _, has := loader.StripTrial(e.Lines.options()); has {
		add(byRewrite, "take what begins with kernwave. out of "+e.Path, "the entry %s of the running kernel has the words of a trial on its command line", e.ID)
	}
	if !s.cmdlineSet {
		add(byCmdline, "write the command line for new kernels to "+cmdlineFile, "kernel-install copies the running command line, which may be a trial's, into new entries: there is no %s", cmdlineFile)
	}
	if !strings.EqualFold(s.byDefault, e.ID) {
		add(bySettings, "run: bootctl set-default '"+e.ID+"'", "%s", s.defaultWhat(running))
	}
	return ps
}

// waits says what makes the menu wait for ever. The variable has the last word.
func (s state) waits() string {
	if s.timeoutOne == "menu-force" {
		return efivar.TimeoutOneShot + " is menu-force"
	}
	if s.timeout != "" {
		if s.timeout == "menu-force" {
			return efivar.Timeout + " is menu-force"
		}
		return ""
	}
	if s.conf.last("timeout") == "menu-force" {
		return "timeout menu-force in loader.conf"
	}
	return ""
}

func (s state) uki(release string) *Entry {
	i := slices.IndexFunc(s.entries, func(e *Entry) bool { return e.UKI() && e.Release == release })
	if i < 0 {
		return nil
	}
	return s.entries[i]
}

// hiddenWhy adds what is wrong with the entries of a release that are there.
func (s state) hiddenWhy(release string) string {
	for _, e := range s.hidden {
		if strings.Contains(e.ID, release) {
			return ": " + e.ID + " does not count, because " + e.Why
		}
	}
	return ""
}

// defaultWhat says what the default is, where it is not the running kernel by name.
func (s state) defaultWhat(running string) string {
	e := s.plainDefault()
	switch {
	case s.byDefault == "" && e != nil && e.Release != running:
		return fmt.Sprintf("%s is not set: a plain boot runs %s, not the running kernel %s", efivar.Default, e.ID, running)
	case s.byDefault == "":
		return efivar.Default + " is not set, which boots the newest kernel, not the running one by name"
	}
	return fmt.Sprintf("%s is %q, which does not name the running kernel %s", efivar.Default, s.byDefault, running)
}
