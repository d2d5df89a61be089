package drain

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/kernwave/kernwave/cache"
	"github.com/kernwave/kernwave/cache/upstream"
)

// hearWithin is how long Sentinels may take to look at the replicas, which they do every 10 s.
const hearWithin = 13 * time.Second

// standAside makes Sentinels pass over the other replicas while the heir takes over. Where both could be promoted they choose by
// priority and then by an offset that they have heard long before, and make a second primary of the other one. What the others had
// is in the journal before; lift gives it back.
func (k *Keeper) standAside(ctx context.Context, d *Drain, p *Part) error {
	had := map[string]string{}
	for _, o := range p.Others {
		if s := k.see(ctx, p, o); s.priority != "" && s.priority != "0" {
			had[o] = s.priority
		}
	}
	if len(had) == 0 {
		return nil
	}
	k.step("stand aside")
	all := maps.Clone(had)
	maps.Copy(all, p.Aside) // still owed
	if err := k.change(d, func() { p.Aside = all }); err != nil {
		return err
	}
	for o := range had {
		if err := k.write(ctx, p, o, "CONFIG", "SET", "replica-priority", "0"); err != nil {
			return err
		}
	}
	for end := time.Now().Add(hearWithin); ; {
		late, err := k.unheard(ctx, p, had)
		if err != nil || late == "" {
			return err
		}
		if time.Now().After(end) {
			return cache.Errorf(cache.CodeGuard, "look at that Sentinel, and drain it again", "%s", late)
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// unheard names a Sentinel that would still promote a replica that has stood aside; empty: none would.
func (k *Keeper) unheard(ctx context.Context, p *Part, aside map[string]string) (string, error) {
	group, words, err := k.words(ctx, p)
	if err != nil {
		return "", err
	}
	for _, w := range words {
		heard, err := priorities(ctx, w.from, group)
		if err != nil {
			return "", err
		}
		for o := range aside {
			if pr := heard[o]; pr != "" && pr != "0" {
				return fmt.Sprintf("Sentinel %s has not looked at %s for %s and would promote it", w.from.Addr, o, hearWithin), nil
			}
		}
	}
	return "", nil
}

// priorities is what a Sentinel has heard last of the replica-priority of each replica, by address.
func priorities(ctx context.Context, sentinel *upstream.Node, group string) (map[string]string, error) {
	rs, err := sentinel.Do(ctx, "SENTINEL", "REPLICAS", group)
	if err := said(rs, err); err != nil {
		return nil, &upstream.Failure{Node: sentinel.Addr, Err: err}
	}
	out := map[string]string{}
	for _, r := range rs.Items {
		out[net.JoinHostPort(r.Get("ip").Str, r.Get("port").Str)] = r.Get("slave-priority").Str
	}
	return out, nil
}

// oldAside adds the old primary, with the replica-priority that it had, to those that stand aside. It has 0 from the instant in which it becomes a
// replica: a Sentinel that is told to fail over when it has already found the heir would make the old one the primary again, and if the two are not
// linked yet, what the heir has taken since would be lost. That Sentinel hears of no other priority of it before it hears of 0.
func (k *Keeper) oldAside(ctx context.Context, p *Part) (map[string]string, error) {
	had, err := k.priority(ctx, p, p.Addr)
	if err != nil || had == "0" {
		return p.Aside, err
	}
	all := map[string]string{p.Addr: had}
	maps.Copy(all, p.Aside) // still owed
	return all, nil
}

// priority is the replica-priority of a server. INFO says it of replicas only.
func (k *Keeper) priority(ctx context.Context, p *Part, addr string) (string, error) {
	one, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	v, err := k.ask(one, p, addr, "CONFIG", "GET", "replica-priority")
	if err = said(v, err); err == nil && v.Get("replica-priority").Str == "" {
		err = errors.New("it does not say its replica-priority")
	}
	if err != nil {
		return "", &upstream.Failure{Node: addr, Err: err}
	}
	return v.Get("replica-priority").Str, nil
}

// comeBack gives the replicas that stand aside their priority again, in their files as well: a Sentinel that makes them follow another primary writes
// these. One that does not answer gets it from Run when it does. Whoever has another priority by now was restarted, or someone else has set it.
func (k *Keeper) comeBack(ctx context.Context, d *Drain, p *Part) error {
	owed := map[string]string{}
	for o, priority := range p.Aside {
		now, err := k.priority(ctx, p, o)
		if err != nil || now == "0" && k.keep(ctx, p, o, priority) != nil {
			owed[o] = priority
		}
	}
	if len(owed) == len(p.Aside) {
		return nil
	}
	return k.change(d, func() { p.Aside = owed })
}

// keep sets a replica's priority and writes it down.
func (k *Keeper) keep(ctx context.Context, p *Part, addr, priority string) error {
	c, err := k.dial(ctx, p, addr)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	return together(ctx, c, []string{"CONFIG", "SET", "replica-priority", priority}, []string{"CONFIG", "REWRITE"})
}

// owed says for people which replicas have not got their priority back; empty: all have.
func (p *Part) owed() string {
	if len(p.Aside) == 0 || p.State == Moving {
		return ""
	}
	return strings.Join(slices.Sorted(maps.Keys(p.Aside)), ", ") + " gets its replica-priority back as soon as it answers"
}
