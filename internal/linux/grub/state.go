package grub

import (
	"fmt"
	"slices"

	"github.com/kernwave/kernwave/fleet"
)

// state is what was found of a host's GRUB, at one moment.
type state struct {
	cfg        config
	env        Env
	oneShot    fleet.OneShot
	oneShotWhy string
	readOnly   bool
	strayCore  string // why the GRUB that the firmware starts reads another grub.cfg
}

// plainDefault is the entry that a boot without next_entry runs; nil when that cannot be told.
func (s state) plainDefault() *Entry {
	if len(s.cfg.Surprises) > 0 || (s.cfg.HonoursSaved && !s.cfg.LoadsEnv) {
		return nil
	}
	spec := s.cfg.Default
	if s.cfg.HonoursSaved {
		spec = s.env.Get("saved_entry")
	}
	return resolve(s.cfg.Menu, spec)
}

// A problem is one thing that stands in the way of a safe trial.
type problem struct {
	what string
	// mend says what makes it go away; byHand: a person has to.
	mend mending
	next string // for a person
}

type mending int

const (
	byHand     mending = iota
	byConfig           // by our drop-in and a new grub.cfg
	byMenu             // by a new grub.cfg alone
	bySettings         // by writing the environment block
)

// problems lists what keeps a plain boot, and a boot after a failed one-shot, from running the kernel running.
func (s state) problems(running string) []problem {
	var ps []problem
	add := func(m mending, next, what string, args ...any) {
		ps = append(ps, problem{fmt.Sprintf(what, args...), m, next})
	}
	if s.oneShot != fleet.OneShotAssumed && s.oneShot != fleet.OneShotProven {
		add(byHand, "move /boot to a plain partition with ext4, or leave the host out", "GRUB cannot forget a one-shot entry by itself: %s", s.oneShotWhy)
	}
	if s.readOnly {
		add(byHand, "mount it for writing", "the file system of /boot/grub is mounted read-only")
	}
	if s.strayCore != "" {
		add(byHand, "run: grub-install; or correct the UUID in that file", "GRUB reads another grub.cfg at boot: %s", s.strayCore)
	}
	if s.env.Get("env_block") != "" {
		add(byHand, "leave the host out", "GRUB keeps its variables outside its file here (env_block)")
	}
	if next := s.env.Get("next_entry"); next != "" && next != TrialID {
		add(byHand, "reboot, or run: grub-editenv - unset next_entry", "someone else chose %q for the next boot", next)
	}
	for _, what := range s.cfg.Surprises {
		add(byHand, "take it out of /etc/grub.d, then run update-grub", "grub.cfg decides about the default in a way that is not known here: %s", what)
	}
	if s.cfg.NeverTimesOut {
		add(byHand, "set GRUB_TIMEOUT to 0 or more in /etc/default/grub, then run update-grub", "GRUB's menu waits for a person (timeout=-1)")
	}
	if !s.cfg.LoadsEnv || !s.cfg.HonoursNext {
		add(byMenu, "restore /etc/grub.d/00_header from the package grub-common, then run update-grub", "grub.cfg does not read and clear next_entry")
	}
	if !s.cfg.SourcesTrial {
		add(byMenu, "run update-grub and look for 42_kernwave in its output", "grub.cfg does not read %s", trialFile)
	}
	if !s.cfg.HonoursSaved {
		add(byConfig, "set GRUB_DEFAULT=saved in /etc/default/grub, then run update-grub", "grub.cfg does not boot saved_entry, but %q", s.cfg.Default)
	}
	if savesDefault(s.cfg.Menu) {
		add(byConfig, "set GRUB_SAVEDEFAULT=false in /etc/default/grub, then run update-grub", "menu entries make themselves the default (savedefault)")
	}
	e := stock(s.cfg.Menu, running)
	if e == nil {
		add(byMenu, "look why update-grub makes no entry for it: ls /boot", "no menu entry names the running kernel %s", running)
		return ps
	}
	if resolve(s.cfg.Menu, e.Path) != e {
		add(byHand, "rename one of the two entries", "the name %q of the running kernel's entry selects another one", e.Path)
	}
	if s.env.Get("saved_entry") != e.Path {
		add(bySettings, "run: grub-set-default '"+e.Path+"'", "%s", s.savedWhat(running))
	}
	if prev := s.env.Get("prev_saved_entry"); prev != "" {
		add(bySettings, "run: grub-editenv - unset prev_saved_entry", "GRUB will make %q the default at the next boot (prev_saved_entry)", prev)
	}
	return ps
}

// savedWhat says what the default is, where it is not the running kernel by name.
func (s state) savedWhat(running string) string {
	saved := s.env.Get("saved_entry")
	if saved == "" {
		return "saved_entry is empty, which boots the newest kernel, not the running one by name"
	}
	if e := resolve(s.cfg.Menu, saved); e != nil && e.Release != running {
		return fmt.Sprintf("saved_entry is %q, which boots %s, not the running kernel %s", saved, e.Release, running)
	}
	return fmt.Sprintf("saved_entry is %q, which does not name the running kernel %s for good", saved, running)
}

func savesDefault(menu []*Entry) bool {
	return slices.ContainsFunc(menu, func(e *Entry) bool {
		return e.SavesDefault || savesDefault(e.Children)
	})
}
