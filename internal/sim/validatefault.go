package sim

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// need says whether a kind of action or fault uses a key.
type need int

const (
	unused need = iota
	may
	must
)

// kind is what one kind of fault uses besides at and every.
type kind struct {
	share, by, lasts need
	hosts            bool // hosts, types, host
	clock            bool // by may be negative
}

var faultKinds = map[string]kind{
	FaultLose:   {share: must, lasts: may},
	FaultDelay:  {share: must, by: must, lasts: may},
	FaultRepeat: {share: must, by: must, lasts: may},

	FaultSilent:     {lasts: must, hosts: true},
	FaultPowerCut:   {hosts: true},
	FaultCrash:      {hosts: true},
	FaultHang:       {hosts: true},
	FaultDie:        {hosts: true},
	FaultKillAgent:  {hosts: true},
	FaultUnready:    {lasts: must, hosts: true},
	FaultDrainFails: {lasts: may, hosts: true},
	FaultClock:      {by: must, hosts: true, clock: true},
	FaultCloneImage: {hosts: true},
	FaultOldDisk:    {by: must, hosts: true},

	FaultKill:         {lasts: may},
	FaultSlowStore:    {by: must, lasts: must},
	FaultFailingStore: {share: must, lasts: must},
	FaultTwoLeaders:   {lasts: must},
	FaultRestore:      {by: must, lasts: may},
	FaultCloneData:    {by: may, lasts: must},
}

// FaultKinds are all of them, in the order of the reference.
var FaultKinds = []string{
	FaultLose, FaultDelay, FaultRepeat,
	FaultSilent, FaultPowerCut, FaultCrash, FaultHang, FaultDie, FaultKillAgent, FaultUnready, FaultDrainFails, FaultClock, FaultCloneImage, FaultOldDisk,
	FaultKill, FaultSlowStore, FaultFailingStore, FaultTwoLeaders, FaultRestore, FaultCloneData,
}

func (f Fault) validate(m *mistakes, path string, s Scenario) {
	if !m.word(path+".what", f.What, FaultKinds) {
		return // what else is allowed depends on it
	}
	k := faultKinds[f.What]
	m.at(path+".at", f.At, s)
	m.between(path+".every", f.Every, least, maxWait)
	uses := func(key string, n need, set bool, example string) bool {
		if set && n == unused {
			m.add(path+"."+key, "means nothing to the fault %s: leave it out", f.What)
		}
		if !set && n == must {
			m.add(path+"."+key, "is missing: the fault %s needs it, such as %s: %s", f.What, key, example)
		}
		return set && n != unused
	}
	if uses("for", k.lasts, f.For != 0, "10m") {
		m.between(path+".for", f.For, 100*time.Millisecond, maxFor)
	}
	if uses("by", k.by, f.By != 0, "30s") {
		if k.clock {
			if f.By > maxClock || f.By < -maxClock {
				m.add(path+".by", "%s is not allowed: -%s to %s", Short(f.By), Short(maxClock), Short(maxClock))
			}
		} else {
			m.between(path+".by", f.By, time.Millisecond, maxWait)
		}
	}
	if (f.What == FaultRestore || f.What == FaultCloneData) && f.Every > 0 && f.By > maxBackups*f.Every {
		m.add(path+".by", "%s is not allowed with every: %s: %d backups would be kept at a time, at most %d are", Short(f.By), Short(f.Every), f.By/f.Every, maxBackups)
	}
	if uses("share", k.share, f.Share != 0, "0.1") {
		m.share(path+".share", f.Share)
	}
	hosts := unused
	if k.hosts {
		hosts = may
	}
	all := 0
	for _, t := range s.Fleet.Types {
		if len(f.Types) == 0 || slices.Contains(f.Types, t.Name) {
			all += min(max(t.Hosts, 0), maxHosts)
		}
	}
	if uses("hosts", hosts, f.Hosts != 0, "1") && (f.Hosts < 0 || f.Hosts > max(all, 1)) {
		m.add(path+".hosts", "%d is not allowed: 1 to %d, as many as there are to choose from", f.Hosts, max(all, 1))
	}
	if uses("types", hosts, len(f.Types) > 0, "[web]") {
		for i, t := range f.Types {
			m.typeName(fmt.Sprintf("%s.types[%d]", path, i), t, s)
		}
	}
	if uses("host", hosts, f.Host != "", "web-0001") {
		m.hostName(path+".host", f.Host, s)
		if len(f.Types) > 0 || f.Hosts > 1 {
			m.add(path+".host", "names the one host: leave hosts and types out")
		}
	}
}

// actionKind is what one kind of action uses besides at and when.
type actionKind struct {
	rollout, host, typ, budget bool
}

var actionKinds = map[string]actionKind{
	DoPause: {rollout: true}, DoResume: {rollout: true}, DoAbort: {rollout: true}, DoRollback: {rollout: true},
	DoRetry: {rollout: true, host: true}, DoSkip: {rollout: true, host: true}, DoLeaveOut: {rollout: true, typ: true},
	DoStop: {}, DoLift: {},
	DoMaintenance: {host: true}, DoActivate: {host: true}, DoRetire: {host: true}, DoPowerCycle: {host: true},
	DoBudget: {budget: true},
}

// ActionKinds are all of them, in the order of the reference.
var ActionKinds = []string{
	DoPause, DoResume, DoAbort, DoRollback, DoRetry, DoSkip, DoLeaveOut, DoStop, DoLift,
	DoMaintenance, DoActivate, DoRetire, DoPowerCycle, DoBudget,
}

func (a Action) validate(m *mistakes, path string, s Scenario) {
	m.at(path+".at", a.At, s)
	a.validateWhen(m, path, s)
	if a.Rollout < 0 || a.Rollout > max(len(s.Rollouts), 1) {
		m.add(path+".rollout", "%d is not allowed: 1 to %d, as many as there are rollouts", a.Rollout, max(len(s.Rollouts), 1))
	}
	if !m.word(path+".do", a.Do, ActionKinds) {
		return
	}
	k := actionKinds[a.Do]
	uses := func(key string, needed, set bool) bool {
		switch {
		case set && !needed:
			m.add(path+"."+key, "means nothing to the action %s: leave it out", a.Do)
		case !set && needed:
			m.add(path+"."+key, "is missing: the action %s needs it", a.Do)
		}
		return set && needed
	}
	if a.Rollout != 0 && !k.rollout && a.When == "" {
		m.add(path+".rollout", "means nothing to the action %s: leave it out", a.Do)
	}
	if uses("host", k.host, a.Host != "") {
		m.hostName(path+".host", a.Host, s)
	}
	if uses("type", k.typ, a.Type != "") {
		m.typeName(path+".type", a.Type, s)
	}
	if uses("budget", k.budget, a.Budget != Budget{}) {
		a.Budget.validate(m, path+".budget", 0)
	}
}

func (a Action) validateWhen(m *mistakes, path string, s Scenario) {
	if a.When == "" || a.When == "canaries" || slices.Contains(rolloutStatuses, a.When) {
		return
	}
	number, isWave := strings.CutPrefix(a.When, "wave ")
	if !isWave {
		m.add(path+".when", "%q is not known: %scanaries, wave N, or a status of the rollout: %s", a.When, meant(a.When, append(rolloutStatuses, "canaries")), strings.Join(rolloutStatuses, ", "))
		return
	}
	waves := 4
	if i := max(a.Rollout, 1) - 1; i < len(s.Rollouts) && len(s.Rollouts[i].Waves) > 0 {
		waves = len(s.Rollouts[i].Waves)
	}
	if n, err := strconv.Atoi(number); err != nil || n < 1 || n > waves || strconv.Itoa(n) != number {
		m.add(path+".when", "%q is not known: the rollout has waves 1 to %d", a.When, waves)
	}
}

func (m *mistakes) typeName(path, name string, s Scenario) {
	var names []string
	for _, t := range s.Fleet.Types {
		names = append(names, t.Name)
	}
	if !slices.Contains(names, name) {
		m.add(path, "%q is no type of this fleet: %s%s", name, meant(name, names), strings.Join(names, ", "))
	}
}

// hostName checks the name of a simulated host: TYPE-NUMBER.
func (m *mistakes) hostName(path, name string, s Scenario) {
	if i := strings.LastIndexByte(name, '-'); i > 0 {
		for _, t := range s.Fleet.Types {
			if n, err := strconv.Atoi(name[i+1:]); err == nil && t.Name == name[:i] && n >= 1 && n <= t.Hosts && hostName(t.Name, n) == name {
				return
			}
		}
	}
	if len(s.Fleet.Types) == 0 {
		m.add(path, "%q is no host of this fleet", name)
		return
	}
	t := s.Fleet.Types[0]
	m.add(path, "%q is no host of this fleet: hosts are called like their type, %s to %s", name, hostName(t.Name, 1), hostName(t.Name, max(t.Hosts, 1)))
}

// hostName is what host number n of a type is called; n counts from 1.
func hostName(typeName string, n int) string { return fmt.Sprintf("%s-%04d", typeName, n) }
