package upstream

import (
	"context"
	"slices"
	"strings"

	"github.com/kernwave/kernwave/cache"
)

// Caps is what a server can do, asked of the server itself. Servers that look alike by their version do not always
// behave alike: forks, proxies and renamed commands.
type Caps map[string]bool

// The capabilities.
const (
	CapMemoryUsage      = "memory-usage"      // MEMORY USAGE
	CapLatencyHistogram = "latency-histogram" // LATENCY HISTOGRAM
	CapCommandLog       = "commandlog"        // Valkey's COMMANDLOG
	CapHotkeysStart     = "hotkeys-start"     // HOTKEYS START, GET, STOP, as Redis has it
	CapHotkeysWindow    = "hotkeys-window"    // HOTKEYS GET and RESET alone, as Valkey has it
	CapClusterScan      = "clusterscan"       // CLUSTERSCAN
	CapKeySizes         = "keysizes"          // INFO keysizes
	CapFailover         = "failover"          // FAILOVER
	CapClusterFailover  = "cluster-failover"  // CLUSTER FAILOVER, on a cluster's node
	CapNoTouch          = "no-touch"          // CLIENT NO-TOUCH
	CapNoEvict          = "no-evict"          // CLIENT NO-EVICT
	CapSlotStats        = "slot-stats"        // CLUSTER SLOT-STATS
	CapClientNet        = "client-net"        // bytes in and out, and commands, in CLIENT LIST
	CapClientKillID     = "client-kill-id"    // CLIENT KILL ID
	CapUnlink           = "unlink"            // UNLINK
	CapMonitor          = "monitor"           // MONITOR, not renamed away
	CapConfig           = "config"            // CONFIG GET
	CapLFU              = "lfu"               // OBJECT FREQ means something: the eviction policy is an LFU one
	CapFunctions        = "functions"         // FUNCTION
	CapDump             = "dump"              // DUMP and RESTORE
)

// commandOf says which command, or "command|subcommand", a capability is about.
var commandOf = map[string]string{
	CapMemoryUsage: "memory|usage", CapLatencyHistogram: "latency|histogram", CapCommandLog: "commandlog",
	CapClusterScan: "clusterscan", CapFailover: "failover", CapNoTouch: "client|no-touch", CapNoEvict: "client|no-evict",
	CapSlotStats: "cluster|slot-stats", CapClientKillID: "client|kill", CapUnlink: "unlink", CapMonitor: "monitor",
	CapConfig: "config|get", CapFunctions: "function", CapDump: "dump", CapHotkeysStart: "hotkeys|start",
}

// since says from which version on a subcommand exists, where a server is too old to list its subcommands (before 7.0).
var since = map[string]string{
	"memory|usage": "4.0", "client|kill": "2.8.12", "config|get": "2.0",
}

// Caps asks the node what it can do. The answer is kept until the server is restarted.
func (n *Node) Caps(ctx context.Context) (Caps, error) {
	n.cluster.mu.Lock()
	got, ok := n.cluster.caps[n.ID]
	n.cluster.mu.Unlock()
	if ok {
		return got, nil
	}
	words := []string{"COMMAND", "INFO"}
	names := map[string]bool{}
	for _, c := range commandOf {
		base, _, _ := strings.Cut(c, "|")
		names[base] = true
	}
	names["hotkeys"], names["cluster"] = true, true
	for _, w := range sortedKeys(names) {
		words = append(words, w)
	}
	vs, err := n.Pipe(ctx, words, []string{"INFO", "keysizes"}, []string{"CLIENT", "LIST", "ID", "0"}, []string{"CLIENT", "INFO"}, []string{"CONFIG", "GET", "maxmemory-policy"})
	if err != nil {
		return nil, err
	}
	caps := Caps{}
	has := commands(vs[0])
	for c, name := range commandOf {
		if has[name] {
			caps[c] = true
			continue
		}
		base, _, sub := strings.Cut(name, "|")
		if v, old := since[name]; sub && old && has[base] && !has["|"] && atLeast(n.Version, v) {
			caps[c] = true
		}
	}
	caps[CapHotkeysWindow] = has["hotkeys|get"] && !has["hotkeys|start"]
	caps[CapClusterFailover] = n.Mode == "cluster" && has["cluster"]
	caps[CapKeySizes] = vs[1].Kind == cache.Bulk && strings.Contains(vs[1].Str, "distrib_")
	caps[CapClientNet] = strings.Contains(vs[3].Str, "tot-net-in=")
	caps[CapLFU] = vs[4].Kind != cache.Err && strings.Contains(vs[4].Get("maxmemory-policy").Str, "lfu")
	for c, ok := range caps {
		if !ok {
			delete(caps, c)
		}
	}
	n.cluster.mu.Lock()
	n.cluster.caps[n.ID] = caps
	n.cluster.mu.Unlock()
	return caps, nil
}

// commands reads COMMAND INFO: the names, and "command|subcommand". "|" stands for a server that lists subcommands.
func commands(v cache.Value) map[string]bool {
	has := map[string]bool{}
	for _, c := range v.Items {
		if len(c.Items) == 0 {
			continue
		}
		has[strings.ToLower(c.Items[0].Str)] = true
		if len(c.Items) >= 10 {
			for _, sub := range c.Items[9].Items {
				if len(sub.Items) > 0 {
					has[strings.ToLower(sub.Items[0].Str)], has["|"] = true, true
				}
			}
		}
	}
	return has
}

// Names are the capabilities, sorted.
func (c Caps) Names() []string { return sortedKeys(c) }

func sortedKeys(m map[string]bool) []string {
	list := make([]string, 0, len(m))
	for k := range m {
		list = append(list, k)
	}
	slices.Sort(list)
	return list
}

// atLeast compares dotted versions.
func atLeast(have, want string) bool {
	h, w := strings.Split(have, "."), strings.Split(want, ".")
	for i := range w {
		if i >= len(h) {
			return false
		}
		if a, b := number(h[i]), number(w[i]); a != b {
			return a > b
		}
	}
	return true
}

func number(s string) int {
	n := 0
	for _, c := range s {
		if c < '0' || c > '9' {
			break
		}
		n = n*10 + int(c-'0')
	}
	return n
}

// AllCaps are all capabilities there are, sorted.
func AllCaps() []string {
	all := map[string]bool{CapHotkeysWindow: true, CapClusterFailover: true, CapKeySizes: true, CapClientNet: true, CapLFU: true}
	for c := range commandOf {
		all[c] = true
	}
	return sortedKeys(all)
}
