package scenario

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kernwave/kernwave/internal/lab"
)

// outage is one time out of service, as the host itself recorded it: from its drain program to its undrain program.
type outage struct {
	host     string
	from, to time.Time // to is zero while it lasts
}

// outages reads them from the hosts' serial consoles.
func (b *bench) outages(hosts ...string) []outage {
	b.t.Helper()
	var os []outage
	for _, h := range hosts {
		rs, err := b.Records(h)
		if err != nil {
			b.t.Fatal(err)
		}
		open := -1
		for _, r := range rs {
			switch {
			case r.What == "drain" && open < 0:
				os = append(os, outage{host: h, from: r.At})
				open = len(os) - 1
			case r.What == "undrain" && open >= 0:
				os[open].to = r.At
				open = -1
			}
		}
	}
	return os
}

// proveBudget fails if more than limit of these hosts were out of service at once, by their own records.
func (b *bench) proveBudget(limit int, hosts ...string) {
	b.t.Helper()
	os := b.outages(hosts...)
	if len(os) == 0 {
		b.t.Errorf("%v: no outage recorded: this proves nothing", hosts)
	}
	for _, o := range os {
		out := map[string]bool{}
		for _, p := range os {
			if !p.from.After(o.from) && (p.to.IsZero() || p.to.After(o.from)) {
				out[p.host] = true
			}
		}
		if len(out) > limit {
			b.t.Errorf("at %s %d hosts of %v were out of service, the budget is %d", o.from.Format(time.TimeOnly), len(out), hosts, limit)
		}
	}
}

// clockSlack is how far a guest's clock may be from the build machine's: the emulated clock lags on a busy machine.
const clockSlack = 3 * time.Second

// proveGrants fails if a host drained, by its own record, without a grant that had been given before.
func (b *bench) proveGrants(hosts ...string) {
	b.t.Helper()
	given := map[string][]time.Time{}
	for _, e := range b.events() {
		if e.Kind == "grant.given" {
			given[string(e.Host)] = append(given[string(e.Host)], e.At)
		}
	}
	for _, o := range b.outages(hosts...) {
		g := given[o.host]
		i := slices.IndexFunc(g, func(at time.Time) bool {
			return at.Before(o.from.Add(clockSlack)) && o.from.Sub(at) < time.Minute
		})
		if i < 0 {
			b.t.Errorf("%s left service at %s; its grants were given at %v", o.host, o.from.Format(time.TimeOnly), g)
			continue
		}
		given[o.host] = slices.Delete(g, i, i+1) // one grant, one outage
	}
}

// proveBoots fails unless every boot of a host, by its own record, is explained: the first; a trial, which came after
// a drain; a way back to the release that it ran before; or one that the test itself asked for (plain).
func (b *bench) proveBoots(host string, plain int) {
	b.t.Helper()
	boots := b.Fleet.Boots(host)
	tries := b.Fleet.Tries(host) // also those that never came up
	drains := len(b.outages(host))
	var trials, back, same int
	home := "" // what a trial falls back to; empty: it runs no trial, as far as can be seen
	for i := 1; i < len(tries); i++ {
		switch tries[i] {
		case tries[i-1]:
			same++
		case home:
			back++
			home = ""
		default: // from a kernel on trial: that one was committed meanwhile
			trials++
			home = tries[i-1]
		}
	}
	if trials > drains {
		b.t.Errorf("%s tried %d new kernels, but left service %d times only: %s", host, trials, drains, describe(boots))
	}
	if back > trials {
		b.t.Errorf("%s went back %d times after %d trials: %s", host, back, trials, describe(boots))
	}
	if same > plain {
		b.t.Errorf("%s rebooted %d times into the kernel that it ran, %d were asked for: %s", host, same, plain, describe(boots))
	}
}

func describe(bs []lab.Boot) string {
	var parts []string
	for _, b := range bs {
		parts = append(parts, fmt.Sprintf("%s at %s", b.Release, b.RTC.Format(time.TimeOnly)))
	}
	return strings.Join(parts, ", ")
}
