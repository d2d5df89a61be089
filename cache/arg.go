package cache

import "slices"

// ArgType is how the text of an argument is read.
type ArgType uint8

// The types. The zero value is text as it comes.
const (
	Text     ArgType = iota
	Integer          // int64 within Min and Max
	Decimal          // float64 within Min and Max
	Duration         // 250ms, 5s, 2h; a bare number is seconds. Min and Max are in seconds
	Size             // 512, 64kb, 1gb: 1024s. Min and Max are in bytes
	Flag             // a keyword without value: DRYRUN
	Selector         // nodes: cluster:x, node:h:p, host:h, service:s, role:r; see ParseSelector
	Pattern          // of keys, as KEYS takes it
	Rest             // every word that is left, at least one unless Optional
)

// Arg is one argument. Those without Keyword are positional, come first and in order; the others follow in any order,
// each after its keyword: TOP 10.
type Arg struct {
	Name     string // lower case; what Call's getters ask for
	Keyword  string // upper case; empty: positional
	Type     ArgType
	Optional bool // always true of flags
	Default  string
	Min, Max float64  // both zero: no bounds
	Enum     []string // allowed values, lower case; compared without case
	Public   bool     // a Text that holds no customers' data, so the record may show it
	Help     string
}

// Common arguments, which several commands take.
var (
	ArgOn      = Arg{Name: "on", Keyword: "ON", Type: Selector, Optional: true, Help: "which nodes: cluster:NAME, node:HOST:PORT, host:NAME, service:NAME, role:primary or role:replica, joined by commas"}
	ArgTop     = Arg{Name: "top", Keyword: "TOP", Type: Integer, Optional: true, Default: "20", Min: 1, Max: 10_000, Help: "how many rows"}
	ArgFormat  = Arg{Name: "format", Keyword: "FORMAT", Optional: true, Default: "resp", Enum: []string{"resp", "json"}, Help: "json: the reply as one string of JSON"}
	ArgAsync   = Arg{Name: "async", Keyword: "ASYNC", Type: Flag, Optional: true, Help: "answer with the job's id at once; CACHE.JOB TAIL shows its progress"}
	ArgBudget  = Arg{Name: "budget", Keyword: "BUDGET", Type: Duration, Optional: true, Min: 0.01, Max: 86_400, Help: "stop after this long and answer with what there is, coverage below 1"}
	ArgDryRun  = Arg{Name: "dryrun", Keyword: "DRYRUN", Type: Flag, Optional: true, Help: "do everything but the change"}
	ArgApprove = Arg{Name: "approval", Keyword: "APPROVAL", Optional: true, Help: "id of the approval that another person gave"}
)

// PlanArgs are the arguments of a command whose plan another person approves: its own, then those that all of them take.
func PlanArgs(own ...Arg) []Arg {
	return slices.Concat(own, []Arg{ArgDryRun, ArgApprove, ArgAsync, ArgFormat})
}
