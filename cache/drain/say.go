package drain

import (
	"context"
	"errors"
	"net"
	"strings"

	"github.com/kernwave/kernwave/cache"
	"github.com/kernwave/kernwave/cache/upstream"
)

// said is the error of an answer, or of getting none.
func said(v cache.Value, err error) error {
	if err == nil && v.Kind == cache.Err {
		err = errors.New(v.Str)
	}
	return err
}

// ask sends one command that changes nothing.
func (k *Keeper) ask(ctx context.Context, p *Part, addr string, words ...string) (cache.Value, error) {
	n, err := k.fleet.At(p.Cluster, addr)
	if err != nil {
		return cache.Value{}, err
	}
	return n.Do(ctx, words...)
}

// dial opens a connection with the credential for writes.
func (k *Keeper) dial(ctx context.Context, p *Part, addr string) (*upstream.Conn, error) {
	n, err := k.fleet.At(p.Cluster, addr)
	if err != nil {
		return nil, err
	}
	return n.DialWrite(ctx)
}

// write sends one command that changes something.
func (k *Keeper) write(ctx context.Context, p *Part, addr string, words ...string) error {
	c, err := k.dial(ctx, p, addr)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	if err := said(c.Do(ctx, words...)); err != nil {
		return &upstream.Failure{Node: addr, Err: err}
	}
	return nil
}

// process opens a connection for writes to the process with a run id. Whatever is said on it reaches that process or nobody.
func (k *Keeper) process(ctx context.Context, p *Part, addr, run string) (*upstream.Conn, error) {
	c, err := k.dial(ctx, p, addr)
	if err != nil {
		return nil, err
	}
	v, err := c.Do(ctx, "INFO", "server")
	if err == nil && upstream.ParseInfo(v.Str)["run_id"] != run {
		err = cache.Errorf(cache.CodeStale, "look with CACHE.NODES, and drain it again", "%s was restarted since it was planned", addr)
	}
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// word is what one Sentinel says of the primary that it watches.
type word struct {
	from    *upstream.Node
	err     error // it does not answer
	primary string
	flags   string
}

// failingOver says whether it is at it.
func (w word) failingOver() bool { return strings.Contains(w.flags, "failover_in_progress") }

// words asks every Sentinel of a part's cluster. An error means that none can be asked.
func (k *Keeper) words(ctx context.Context, p *Part) (group string, list []word, err error) {
	group, sentinels, err := k.fleet.Sentinels(ctx, p.Cluster)
	if err != nil {
		return "", nil, err
	}
	for _, s := range sentinels {
		v, err := s.Do(ctx, "SENTINEL", "MASTER", group)
		list = append(list, word{from: s, err: err, primary: net.JoinHostPort(v.Get("ip").Str, v.Get("port").Str), flags: v.Get("flags").Str})
	}
	return group, list, nil
}
