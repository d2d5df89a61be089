package lease

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/kernwave/kernwave/cache"
	"github.com/kernwave/kernwave/cache/upstream"
)

// FleetNodes are the servers of a fleet, as a Keeper needs them.
func FleetNodes(f *upstream.Fleet) Nodes { return fleetNodes{f} }

type fleetNodes struct{ fleet *upstream.Fleet }

func (f fleetNodes) Node(cluster, addr string) Node { return fleetNode{f.fleet, cluster, addr} }

// fleetNode is the server at an address, in whatever role it is. It is not looked for first: looking waits for others.
type fleetNode struct {
	fleet         *upstream.Fleet
	cluster, addr string
}

func (n fleetNode) conn(ctx context.Context) (*upstream.Conn, error) {
	x, err := n.fleet.At(n.cluster, n.addr)
	if err != nil {
		return nil, err
	}
	return x.DialWrite(ctx)
}

// ask sends questions and returns the answers, none of which is an error.
func (n fleetNode) ask(ctx context.Context, c *upstream.Conn, cmds ...[]string) ([]cache.Value, error) {
	vs, err := c.Pipe(ctx, cmds...)
	if err != nil {
		return nil, err
	}
	for _, v := range vs {
		if v.Kind == cache.Err {
			return nil, fmt.Errorf("%s answered %s", n.addr, v.Str)
		}
	}
	return vs, nil
}

// setting reads the answer of CONFIG GET.
func (n fleetNode) setting(v cache.Value, param string) (string, error) {
	if len(v.Items) != 2 {
		return "", cache.Errorf(cache.CodeUnsupported, "CACHE.CAPS shows what each node can", "%s has no setting %s", n.addr, param)
	}
	return v.Items[1].Str, nil
}

func (n fleetNode) Get(ctx context.Context, param string) (value, runID string, err error) {
	c, err := n.conn(ctx)
	if err != nil {
		return "", "", err
	}
	defer func() { _ = c.Close() }()
	vs, err := n.ask(ctx, c, []string{"CONFIG", "GET", param}, []string{"INFO", "server"})
	if err != nil {
		return "", "", err
	}
	value, err = n.setting(vs[0], param)
	return value, infoField(vs[1].Str, "run_id:"), err
}

func infoField(info, key string) string {
	for line := range strings.SplitSeq(info, "\n") {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), key); ok {
			return v
		}
	}
	return ""
}

// calls is how often CONFIG SET was called, asked after a CONFIG GET. -1: the server, older than 7.0, does not count by
// subcommand.
func calls(stats string) int {
	if infoField(stats, "cmdstat_config|get:") == "" {
		return -1
	}
	n, _, _ := strings.Cut(infoField(stats, "cmdstat_config|set:calls="), ",")
	i, err := strconv.Atoi(n)
	if err != nil {
		return 0 // not yet
	}
	return i
}

func (n fleetNode) Swap(ctx context.Context, ch Change, intend func(Attempt) error) (s Swapped, err error) {
	c, err := n.conn(ctx)
	if err != nil {
		return s, err
	}
	defer func() { _ = c.Close() }()
	me, err := n.ask(ctx, c, []string{"INFO", "server"}, []string{"CLIENT", "ID"})
	if err != nil {
		return s, err
	}
	s.RunID, s.Sure, s.Sets = infoField(me[0].Str, "run_id:"), true, -1
	if p := ch.Prior; p.Client != 0 && p.RunID == s.RunID { // ids of connections begin anew with the server
		v, err := c.Do(ctx, "CLIENT", "KILL", "ID", strconv.FormatInt(p.Client, 10))
		if err != nil {
			return s, err
		}
		s.Sure = v.Kind != cache.Err
	}
	vs, err := n.ask(ctx, c, []string{"CONFIG", "GET", ch.Param}, []string{"INFO", "commandstats"})
	if err != nil {
		return s, err
	}
	if s.Found, err = n.setting(vs[0], ch.Param); err != nil {
		return s, err
	}
	sets := calls(vs[1].Str)
	if p := ch.Prior; p.RunID == s.RunID && p.Sets >= 0 && sets >= p.Sets {
		s.Sets = sets - p.Sets
	}
	if !same(s.Found, ch.From) {
		return s, nil
	}
	if err := intend(Attempt{RunID: s.RunID, Client: me[1].Int, Sets: sets}); err != nil {
		return s, err
	}
	before, after, err := n.set(ctx, c, ch.Param, ch.To)
	if err != nil {
		return s, err
	}
	s.Done, s.Now = true, after
	if !same(before, ch.From) && !same(before, ch.To) {
		err = n.putBack(ctx, c, ch.Param, ch.To, before, &s)
	}
	return s, err
}

// set sets a value and says what it overwrote, in one transaction. A user who may not have transactions gets the same in
// three commands of one packet.
func (n fleetNode) set(ctx context.Context, c *upstream.Conn, param, to string) (before, after string, err error) {
	get := []string{"CONFIG", "GET", param}
	vs, err := c.Pipe(ctx, []string{"MULTI"}, get, []string{"CONFIG", "SET", param, to}, get, []string{"EXEC"})
	if err != nil {
		return "", "", err
	}
	did := vs[4].Items
	if vs[0].Kind == cache.Err {
		did = vs[1:4]
	} else if len(did) != 3 {
		return "", "", cache.Errorf(cache.CodeErr, "", "%s answered %s", n.addr, vs[4].Str)
	}
	if did[1].Kind == cache.Err {
		return "", "", cache.Errorf(cache.CodeErr, "", "%s answered %s", n.addr, did[1].Str)
	}
	if before, err = n.setting(did[0], param); err != nil {
		return "", "", err
	}
	after, err = n.setting(did[2], param)
	return before, after, err
}

// putBack sets again what someone else had set, over which ours was set. Should they set it once more meanwhile, their
// last word counts.
func (n fleetNode) putBack(ctx context.Context, c *upstream.Conn, param, ours, theirs string, s *Swapped) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	s.Done, s.Raced = false, true
	for range 10 {
		before, after, err := n.set(ctx, c, param, theirs)
		if err != nil {
			return err
		}
		s.Found, s.Now = theirs, after
		if same(before, ours) || same(before, theirs) {
			return nil
		}
		ours, theirs = theirs, before
	}
	return errors.New(n.addr + ": someone else sets " + param + " all the time")
}
