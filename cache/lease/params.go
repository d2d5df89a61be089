package lease

import (
	"fmt"
	"slices"
	"strings"

	"github.com/kernwave/kernwave/cache"
)

// param is a setting that may be changed for a while, and within which bounds.
type param struct {
	min, max int64 // of numbers and sizes
	enum     []string
	harmless bool // needs no second person: it costs a little memory or time, and no customer anything
	help     string
}

var yesNo = []string{"yes", "no"}

// params are all that may be changed. Settings that move data, roles, persistence, memory limits or access are not among
// them; each has, or will have, a command of its own that knows how to go back.
var params = map[string]param{
	"slowlog-log-slower-than":    {min: -1, max: 1e9, harmless: true, help: "microseconds; 0 logs everything"},
	"slowlog-max-len":            {min: 0, max: 100_000, harmless: true, help: "entries"},
	"latency-monitor-threshold":  {min: 0, max: 1e6, harmless: true, help: "milliseconds; 0 is off"},
	"latency-tracking":           {enum: yesNo, harmless: true, help: "latency histograms"},
	"maxmemory-policy":           {enum: []string{"noeviction", "allkeys-lru", "allkeys-lfu", "allkeys-random", "volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl"}, help: "who is evicted"},
	"maxmemory-samples":          {min: 1, max: 64, help: "keys that eviction looks at"},
	"lfu-log-factor":             {min: 0, max: 255, help: "how fast frequencies saturate"},
	"lfu-decay-time":             {min: 0, max: 10_000, help: "minutes"},
	"hz":                         {min: 1, max: 500, help: "background rounds a second"},
	"active-expire-effort":       {min: 1, max: 10, help: "how hard expired keys are looked for"},
	"activedefrag":               {enum: yesNo, help: "moving memory about"},
	"lazyfree-lazy-eviction":     {enum: yesNo, help: "evicted values are freed in the background"},
	"lazyfree-lazy-expire":       {enum: yesNo, help: "expired values are freed in the background"},
	"lazyfree-lazy-server-del":   {enum: yesNo, help: "overwritten values are freed in the background"},
	"lazyfree-lazy-user-del":     {enum: yesNo, help: "DEL works as UNLINK"},
	"timeout":                    {min: 0, max: 1e6, help: "seconds until an idle client is disconnected; 0 never"},
	"tcp-keepalive":              {min: 0, max: 100_000, help: "seconds"},
	"maxclients":                 {min: 100, max: 1e6, help: "connections"},
	"repl-backlog-size":          {min: 1 << 20, max: 16 << 30, help: "bytes kept for replicas that come back"},
	"cluster-slot-stats-enabled": {enum: yesNo, help: "statistics by slot"},
}

// Params are the names, sorted.
func Params() []string {
	var names []string
	for n := range params {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// check says whether a setting may be changed to a value.
func check(name, value string) (param, error) {
	p, ok := params[name]
	if !ok {
		next := "use one of " + strings.Join(Params(), ", ")
		if name == "maxmemory" {
			next = "a lower limit evicts, also when a raised one is taken back; a command that steps it comes later"
		}
		return p, cache.Errorf(cache.CodeNoPerm, next, "%s cannot be changed for a while", clip(name))
	}
	if len(p.enum) > 0 {
		if !slices.Contains(p.enum, strings.ToLower(value)) {
			return p, cache.Errorf(cache.CodeErr, "give one of "+strings.Join(p.enum, ", "), "%s: '%s' is not allowed", name, clip(value))
		}
		return p, nil
	}
	n, ok := size(value)
	if !ok || n < p.min || n > p.max {
		return p, cache.Errorf(cache.CodeErr, fmt.Sprintf("give a whole number from %d to %d (%s)", p.min, p.max, p.help), "%s: %s is out of bounds", name, clip(value))
	}
	return p, nil
}

func clip(s string) string {
	if len(s) > 60 {
		s = s[:60] + "…"
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' {
			return ' '
		}
		return r
	}, s)
}
