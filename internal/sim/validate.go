package sim

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/near"
	"github.com/kernwave/kernwave/internal/operator"
	"github.com/kernwave/kernwave/rollout"
)

// Bounds of a scenario. They keep a typing error from running for days, and are far beyond what a rehearsal needs.
const (
	maxHosts   = 20_000 // in all: what the state of one control plane is built for twice over
	maxTypes   = 100
	maxListed  = 1000 // actions, faults
	maxFor     = 60 * 24 * time.Hour
	maxWait    = 30 * 24 * time.Hour
	maxClock   = 50 * 365 * 24 * time.Hour // how far a wall clock may jump: certificates and time.Duration end soon after
	maxMean    = 10 * 365 * 24 * time.Hour // between two events
	maxAbout   = 2000                      // characters
	maxBackups = 50                        // kept at a time: they are in memory
	least      = time.Second               // of what repeats: shorter, and nothing else happens
)

// Mistake is one thing that is wrong with a scenario.
type Mistake struct {
	// Path is the key: fleet.types[2].hosts, counted from 0.
	Path string
	// Why says what is wrong with it and what is allowed.
	Why string
}

func (m *Mistake) Error() string { return m.Path + ": " + m.Why }

// mistakes collects every one.
type mistakes struct{ errs []error }

func (m *mistakes) add(path, format string, args ...any) {
	m.errs = append(m.errs, &Mistake{path, fmt.Sprintf(format, args...)})
}

// between checks a duration that means something else when it is zero, or, with lo zero, nothing.
func (m *mistakes) between(path string, d, lo, hi time.Duration) {
	if d != 0 && (d < lo || d > hi) || d < 0 {
		m.add(path, "%s is not allowed: %s to %s", Short(d), Short(lo), Short(hi))
	}
}

func (m *mistakes) count(path string, n, lo, hi int) {
	if n < lo || n > hi {
		m.add(path, "%d is not allowed: %d to %d", n, lo, hi)
	}
}

// word checks one of a few words; the empty one is allowed where a default stands for it.
func (m *mistakes) word(path, w string, words []string) bool {
	if slices.Contains(words, w) {
		return true
	}
	if w == "" {
		m.add(path, "is missing: one of %s", strings.Join(words, ", "))
	} else {
		m.add(path, "%q is not known: %sone of %s", w, meant(w, words), strings.Join(words, ", "))
	}
	return false
}

// meant asks whether it was one of words that somebody had in mind, or says nothing.
func meant(w string, words []string) string {
	if names := near.Names(w, words); len(names) > 0 {
		return "did you mean " + strings.Join(names, " or ") + "? "
	}
	return ""
}

var plainName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?$`)

func (m *mistakes) name(path, s string, most int) {
	switch {
	case s == "":
		m.add(path, "is missing: letters, digits and '-'")
	case len(s) > most:
		m.add(path, "%d characters, at most %d are allowed", len(s), most)
	case !plainName.MatchString(s):
		m.add(path, "%q is not allowed: letters, digits and, inside, '-'", s)
	}
}

// Validate reports every mistake at once, joined; each is a [*Mistake].
func (s Scenario) Validate() error {
	m := &mistakes{}
	m.name("name", s.Name, 63)
	if n := utf8.RuneCountInString(s.About); n > maxAbout {
		m.add("about", "%d characters, at most %d are allowed", n, maxAbout)
	}
	if i := strings.IndexFunc(s.About, func(r rune) bool {
		return r == utf8.RuneError || r != '\n' && !unicode.IsPrint(r)
	}); i >= 0 {
		m.add("about", "byte %d is no printable text", i+1)
	}
	m.between("for", s.For, 5*time.Minute, maxFor)
	s.Fleet.validate(m)
	s.validateBudgets(m)
	if len(s.Rollouts) == 0 {
		m.add("rollouts", "is missing: at least one rollout, which may be empty: - {}")
	}
	m.count("rollouts", len(s.Rollouts), 0, 20)
	for i, r := range s.Rollouts {
		r.validate(m, fmt.Sprintf("rollouts[%d]", i), s)
	}
	m.count("actions", len(s.Actions), 0, maxListed)
	for i, a := range s.Actions {
		a.validate(m, fmt.Sprintf("actions[%d]", i), s)
	}
	s.Operator.validate(m)
	s.Control.validate(m)
	m.count("faults", len(s.Faults), 0, maxListed)
	for i, f := range s.Faults {
		f.validate(m, fmt.Sprintf("faults[%d]", i), s)
	}
	return errors.Join(m.errs...)
}

// lasts is how long the simulated world runs at most.
func (s Scenario) lasts() time.Duration {
	if s.For <= 0 {
		return DefaultFor
	}
	return s.For
}

// DefaultFor is how long a simulation runs at most when the scenario does not say.
const DefaultFor = 72 * time.Hour

// at checks a moment of the simulation.
func (m *mistakes) at(path string, at time.Duration, s Scenario) {
	switch {
	case at < 0:
		m.add(path, "%s is not allowed: 0s or more", Short(at))
	case at >= s.lasts():
		m.add(path, "%s never comes: the simulation ends after %s (for)", Short(at), Short(s.lasts()))
	}
}

func (f Fleet) validate(m *mistakes) {
	m.count("fleet.datacenters", f.Datacenters, 0, 100)
	m.count("fleet.racks", f.Racks, 0, 1000)
	if len(f.Types) == 0 {
		m.add("fleet.types", "is missing: at least one type, such as - {name: web, hosts: 20}")
	}
	m.count("fleet.types", len(f.Types), 0, maxTypes)
	seen := map[string]int{}
	all := 0
	for i, t := range f.Types {
		path := fmt.Sprintf("fleet.types[%d]", i)
		t.validate(m, path)
		if j, twice := seen[t.Name]; twice && t.Name != "" {
			m.add(path+".name", "%q is also fleet.types[%d]: a type is one entry", t.Name, j)
		} else {
			seen[t.Name] = i
		}
		all += min(max(t.Hosts, 0), maxHosts+1) // cannot overflow
	}
	if all > maxHosts && len(f.Types) > 1 {
		m.add("fleet.types", "%d hosts in all, at most %d are simulated", all, maxHosts)
	}
}

func (t Type) validate(m *mistakes, path string) {
	m.name(path+".name", t.Name, 50) // the host's number comes behind it
	if t.Hosts == 0 {
		m.add(path+".hosts", "is missing or 0: how many there are, 1 to %d", maxHosts)
	} else {
		m.count(path+".hosts", t.Hosts, 1, maxHosts)
	}
	if t.Workload != "" {
		if err := (fleet.Labels{"workload": t.Workload}).Validate(); err != nil {
			m.add(path+".workload", "%s", strings.TrimPrefix(err.Error(), "label "))
		}
	}
	m.between(path+".boot", t.Boot, least, time.Hour)
	m.between(path+".prepare", t.Prepare, least, 24*time.Hour)
	m.between(path+".drain", t.Drain, least, 24*time.Hour)
	m.between(path+".checks", t.Checks, least, 24*time.Hour)
	if t.Watchdog > 0 {
		m.between(path+".watchdog", t.Watchdog, least, time.Hour)
	}
	if t.Unable < 0 || t.Unable > max(t.Hosts, 0) {
		m.add(path+".unable", "%d is not allowed: 0 to %d, as many as there are hosts", t.Unable, max(t.Hosts, 0))
	}
	t.Kernel.validate(m, path+".kernel")
}

// What a trial boot may be told to do.
const (
	BootsAlways = "always"
	BootsPanic  = "panic"
	BootsHang   = "hang"
)

func (k KernelFault) validate(m *mistakes, path string) {
	if k.Boots != "" {
		m.word(path+".boots", k.Boots, []string{BootsAlways, BootsPanic, BootsHang})
	}
	m.count(path+".boots_one_in", k.BootsOneIn, 0, 1000)
	m.between(path+".crash_every", k.CrashEvery, least, maxMean)
	m.between(path+".hang_after", k.HangAfter, least, maxMean)
	if k.NetworkLostAfter != nil {
		m.between(path+".network_lost_after", *k.NetworkLostAfter, 0, maxWait)
	}
	m.share(path+".fail_checks", k.FailChecks)
	m.between(path+".slow_boot", k.SlowBoot, least, 24*time.Hour)
	if k.Boots != BootsPanic && k.Boots != BootsHang {
		return
	}
	for _, x := range []struct {
		key string
		set bool
	}{
		{"boots_one_in", k.BootsOneIn != 0},
		{"crash_every", k.CrashEvery != 0},
		{"hang_after", k.HangAfter != 0},
		{"network_lost_after", k.NetworkLostAfter != nil},
		{"fail_checks", k.FailChecks != 0},
		{"slow_boot", k.SlowBoot != 0},
		{"wrong_release", k.WrongRelease},
	} {
		if x.set {
			m.add(path+"."+x.key, "means nothing beside boots: %s, which never comes so far; leave one of them out", k.Boots)
		}
	}
}

// share checks a part of a whole.
func (m *mistakes) share(path string, f float64) {
	if math.IsNaN(f) || f < 0 || f > 1 {
		m.add(path, "%s is not allowed: a share from 0 to 1, such as 0.05", strconv.FormatFloat(f, 'g', -1, 64))
	}
}

// hostLabels are those that simulated hosts have.
var hostLabels = []string{"workload", "datacenter", "rack"}

func (b Budget) validate(m *mistakes, path string, lowest int) {
	label, isLabel := strings.CutPrefix(b.By, operator.BudgetByLabel)
	switch {
	case b.By == "":
		m.add(path+".by", "is missing: type, or label:KEY such as label:rack")
	case b.By == operator.BudgetByType:
		lowest = 1
	case !isLabel || !slices.Contains(hostLabels, label):
		m.add(path+".by", "%q is no group of simulated hosts: type, label:%s", b.By, strings.Join(hostLabels, ", label:"))
	}
	m.count(path+".limit", b.Limit, lowest, maxHosts)
}

func (s Scenario) validateBudgets(m *mistakes) {
	seen := map[string]int{}
	for i, b := range s.Budgets {
		path := fmt.Sprintf("budgets[%d]", i)
		b.validate(m, path, 1)
		if j, twice := seen[b.By]; twice && b.By != "" {
			m.add(path+".by", "%q is also budgets[%d]: one limit is enough", b.By, j)
		} else {
			seen[b.By] = i
		}
	}
}

func (r Rollout) validate(m *mistakes, path string, s Scenario) {
	m.at(path+".at", r.At, s)
	if _, err := fleet.ParseSelector(r.Selector); err != nil {
		m.add(path+".selector", "%s; write it like workload=web,datacenter=dc-1", err)
	}
	m.waves(path+".waves", r.Waves)
	if r.Soak != nil {
		m.between(path+".soak", *r.Soak, 0, maxWait)
	}
	m.count(path+".canaries", r.Canaries, 0, 100)
	m.between(path+".return_within", r.ReturnWithin, 30*time.Second, maxWait)
	m.between(path+".trial_deadline", r.TrialDeadline, 30*time.Second, maxWait)
}

func (m *mistakes) waves(path string, waves []int) {
	last := 0
	for i, w := range waves {
		if w <= last || w > 100 {
			m.add(path, "%d at position %d: shares in per cent, each larger than the one before and at most 100", w, i+1)
			return
		}
		last = w
	}
	if len(waves) > 0 && last != 100 {
		m.add(path, "the last is %d, it must be 100", last)
	}
}

func (o Operator) validate(m *mistakes) {
	if o.OnPause != "" {
		m.word("operator.on_pause", o.OnPause, onPause)
	}
	m.between("operator.after", o.After, least, maxWait)
	m.between("operator.power_cycle_after", o.PowerCycleAfter, least, maxWait)
}

var onPause = []string{
	OnPauseNothing, OnPauseResume, OnPauseRetry, OnPauseSkip, OnPauseLeaveOut, OnPauseAbort, OnPauseRollback, OnPauseRandom,
}

// validate has the bounds of internal/control; what is not set there has the default that stands here.
func (c Control) validate(m *mistakes) {
	or := func(d, standard time.Duration) time.Duration {
		if d <= 0 {
			return standard
		}
		return d
	}
	m.between("control.grant_life", c.GrantLife, 10*time.Second, time.Hour)
	m.between("control.idle_pace", c.IdlePace, time.Second, 10*time.Minute)
	life, idle := or(c.GrantLife, 30*time.Second), or(c.IdlePace, 30*time.Second)
	if pace := or(c.OperationPace, 2*time.Second); c.OperationPace < 0 || pace < 100*time.Millisecond || pace > life/4 {
		m.add("control.operation_pace", "%s is not allowed: 100ms to a quarter of the grant life of %s", Short(pace), Short(life))
	}
	if silent := or(c.SilentAfter, max(3*idle, 90*time.Second)); c.SilentAfter < 0 || silent < 2*idle || silent > 24*time.Hour {
		m.add("control.silent_after", "%s is not allowed: twice the idle pace of %s, to 24h", Short(silent), Short(idle))
	}
}

// rolloutStatuses are those for which an action may wait.
var rolloutStatuses = []string{
	"running", "paused", "aborting", "rolling-back", string(rollout.OutcomeDone), string(rollout.OutcomeAborted), string(rollout.OutcomeRolledBack),
}

// Short prints a duration as people write one: 90s, 15m, 36h, 1h30m.
func Short(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}
