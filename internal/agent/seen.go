package agent

import (
	"encoding/json"
	"path/filepath"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/agent/disk"
)

func (a *Agent) seenPath() string { return filepath.Join(a.cfg.StateDir, "obeyed.json") }

// loadSeen reads the highest control plane that this host has obeyed. A file that cannot be read counts as none:
// refusing everybody for ever would need a person on each host.
func (a *Agent) loadSeen() {
	data, err := a.disk.ReadFile(a.seenPath())
	if err != nil {
		return
	}
	if err := json.Unmarshal(data, &a.seen); err != nil {
		a.log.Warn("which control plane was obeyed last cannot be read: the next one is", "file", a.seenPath(), "err", err)
		a.seen = fleet.Incarnation{}
	}
}

// obeys says whether an answer may be obeyed, and remembers the highest. It is on disk before it is obeyed. Whoever is
// not obeyed is left: the next question finds its way anew.
func (a *Agent) obeys(from fleet.Incarnation) bool {
	if why := a.seen.Refuses(from); why != "" {
		a.ctl.Reconnect()
		a.refusals++
		level := a.log.Error
		if a.refusals > 1 {
			level = a.log.Debug // said already
		}
		level("an answer is refused", "why", why,
			"seen_incarnation", a.seen.Incarnation, "seen_term", a.seen.Term, "seen_instance", a.seen.Instance,
			"got_incarnation", from.Incarnation, "got_term", from.Term, "got_instance", from.Instance,
			"next", "see which control plane answers under this name; a restored one gets a new incarnation by itself")
		return false
	}
	a.refusals = 0
	if from == a.seen {
		return true
	}
	data, err := json.Marshal(from)
	if err == nil {
		err = disk.Replace(a.disk, a.seenPath(), data, 0o600)
	}
	if err != nil {
		a.log.Warn("which control plane is obeyed could not be written", "file", a.seenPath(), "err", err)
	}
	a.seen = from
	return true
}
