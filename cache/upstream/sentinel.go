package upstream

import (
	"cmp"
	"context"
	"fmt"
	"net"

	"github.com/kernwave/kernwave/cache"
)

// Sentinels returns the Sentinels of a cluster that answer, and the name that they call its group. They are the seeds, and
// whom those know.
func (f *Fleet) Sentinels(ctx context.Context, name string) (group string, list []*Node, err error) {
	var c *cluster
	for _, o := range f.clusters {
		if o.cfg.Name == name {
			c = o
		}
	}
	if c == nil {
		return "", nil, fmt.Errorf("no cluster is called %s", name)
	}
	who := credential{cmp.Or(c.cfg.SentinelUser, c.cfg.User), cmp.Or(c.cfg.SentinelPassword, c.cfg.Password)}
	asked := map[string]bool{}
	todo := c.cfg.Seeds
	for len(todo) > 0 {
		addr := todo[0]
		todo = todo[1:]
		if asked[addr] {
			continue
		}
		asked[addr] = true
		n := &Node{Target: cache.Target{Cluster: name, Addr: addr}, LagBytes: -1, pool: c.poolAs("sentinel "+addr, addr, who), cluster: c}
		one, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
		ms, merr := n.Do(one, "SENTINEL", "MASTERS")
		if merr != nil {
			cancel()
			err = merr
			continue
		}
		for _, m := range ms.Items {
			g := m.Get("name").Str
			if c.cfg.Group != "" && g != c.cfg.Group || c.cfg.Group == "" && len(ms.Items) > 1 {
				continue
			}
			group, list = g, append(list, n)
			if others, oerr := n.Do(one, "SENTINEL", "SENTINELS", g); oerr == nil {
				for _, o := range others.Items {
					todo = append(todo, net.JoinHostPort(o.Get("ip").Str, o.Get("port").Str))
				}
			}
		}
		cancel()
	}
	if len(list) == 0 {
		return "", nil, fmt.Errorf("no Sentinel of cluster %s answers: %w", name, cmp.Or(err, error(cache.Errorf(cache.CodeErr, "", "none watches it"))))
	}
	return group, list, nil
}
