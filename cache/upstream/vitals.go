package upstream

import (
	"context"
	"fmt"
	"time"
)

// vitals are the signs of a server that are not a ping.
type vitals struct {
	at       time.Time
	role     string
	info     map[string]string
	evicted  int64
	ops      int64
	lag      int64 // a replica's, from its primary's last word; of a primary the worst of its replicas; -1: unknown
	clusterN string
}

func (n *Node) vitals(ctx context.Context) (vitals, error) {
	v, err := n.Do(ctx, "INFO")
	if err != nil {
		return vitals{}, err
	}
	in := ParseInfo(v.Str)
	s := vitals{at: time.Now(), role: in["role"], info: in, lag: -1}
	s.evicted = int64(number(in["evicted_keys"]))
	s.ops = int64(number(in["instantaneous_ops_per_sec"]))
	if off := number(in["master_repl_offset"]); s.role == "master" {
		for i := 0; ; i++ {
			line, ok := in[fmt.Sprintf("slave%d", i)]
			if !ok {
				break
			}
			s.lag = max(s.lag, int64(off-number(fields(line, ",", "=")["offset"])))
		}
	}
	return s, nil
}

// unfit says why nothing heavy may begin here now; empty: it may.
func (v vitals) unfit() string {
	in := v.info
	switch {
	case in["loading"] == "1":
		return "the server is loading its data"
	case in["role"] == "slave" && in["master_sync_in_progress"] == "1":
		return "the replica is in a full synchronisation"
	case in["master_failover_state"] != "" && in["master_failover_state"] != "no-failover":
		return "a failover is under way"
	case in["rdb_bgsave_in_progress"] == "1" && lowMemory(in):
		return "a background save is under way and memory is short"
	}
	return ""
}

// lowMemory says whether less than a tenth of the machine's memory is left beside the server's own.
func lowMemory(in map[string]string) bool {
	total, rss := number(in["total_system_memory"]), number(in["used_memory_rss"])
	return total > 0 && rss > total*9/10
}

// watchHealth looks at the server's own figures once a second.
func (p *Pacer) watchHealth(ctx context.Context, first vitals) {
	defer close(p.health)
	t := time.NewTicker(healthEvery)
	defer t.Stop()
	last := first
	uptime := max(1, number(first.info["uptime_in_seconds"]))
	before := float64(first.evicted) / float64(uptime)
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		one, cancel := context.WithTimeout(ctx, p.node.cluster.cfg.Timeout)
		v, err := p.node.vitals(one)
		cancel()
		if err != nil {
			continue // the canary says when the node is gone
		}
		why := v.unfit()
		rate := float64(v.evicted-last.evicted) / max(0.1, v.at.Sub(last.at).Seconds())
		switch {
		case v.role != first.role:
			p.kill(&ErrGuard{"its role changed from " + first.role + " to " + v.role})
		case v.info["run_id"] != first.info["run_id"]:
			p.kill(&ErrGuard{"it was restarted"})
		case why != "":
		case rate > evictIgnored && rate > evictMost*before:
			why = fmt.Sprintf("it evicts %.0f keys a second, before %.0f", rate, before)
		case v.lag > lagMost:
			why = fmt.Sprintf("a replica is %d MB behind", v.lag>>20)
		case v.role == "slave" && v.info["master_link_status"] != "up":
			why = "its link to its primary is down"
		}
		last = v
		if why != "" {
			p.mu.Lock()
			p.tripped = why
			p.mu.Unlock()
		}
	}
}
