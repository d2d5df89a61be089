package script

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kernwave/kernwave/cache"
	"github.com/kernwave/kernwave/cache/upstream"
)

// Config is what a [Manager] works with. All but Exe, Server and Now must be there.
type Config struct {
	// Dir keeps the bundles.
	Dir       string
	Registry  *cache.Registry
	Fleet     *upstream.Fleet
	Approvals *cache.Approvals
	Log       cache.Log
	// Exe is the program that is started for each run and calls RunIfChild; empty: this one.
	Exe string
	// Server is the redis-server or valkey-server that tests run against; empty: the first one in the path.
	Server string
	// Now is the clock; nil means the real one.
	Now func() time.Time
}

// Manager loads operators' commands and keeps the registry as it should be. It is safe for concurrent use.
type Manager struct {
	cfg    Config
	runner *Runner
	store  store

	mu     sync.Mutex // of states and plans, and of what is saved
	states map[string]*state
	plans  map[string]*Plan // by the id of their approval
}

// New registers CACHE.CMD and the commands that were promoted before. A command that can no longer be loaded is left out:
// the errors name it, and the manager is there all the same.
func New(cfg Config) (*Manager, error) {
	if cfg.Dir == "" || cfg.Registry == nil || cfg.Fleet == nil || cfg.Approvals == nil || cfg.Log == nil {
		return nil, errors.New("script: Dir, Registry, Fleet, Approvals and Log are needed")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	m := &Manager{cfg: cfg, runner: NewRunner(cfg.Exe, cfg.Fleet.Heavy), store: store{cfg.Dir}, plans: map[string]*Plan{}}
	var err error
	if m.states, err = m.store.read(); err != nil {
		return nil, err
	}
	var errs []error
	for _, c := range m.commands() {
		errs = append(errs, cfg.Registry.Put(c))
	}
	for name, st := range m.states {
		if st.Active == "" {
			continue
		}
		b, err := m.store.bundle(name, st.Active)
		if err == nil {
			err = m.put(b, st.find(st.Active))
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("load %s: %w", name, err))
		}
	}
	return m, errors.Join(errs...)
}

func (m *Manager) put(b *Bundle, l *loaded) error {
	author := ""
	if l != nil {
		author = l.Author
	}
	return m.cfg.Registry.Put(b.command(m.handler(b, author)))
}

var (
	argName    = cache.Arg{Name: "name", Public: true, Help: "CACHE.X.NAME"}
	argBundle  = cache.Arg{Name: "bundle", Help: "a tar archive of manifest.yaml and command.star: tar -C FOLDER -c manifest.yaml command.star | redis-cli -x CACHE.CMD PUT"}
	argVersion = cache.Arg{Name: "version", Keyword: "VERSION", Optional: true, Public: true, Help: "the hash of a version, or the first 8 or more digits of it; default: the newest"}
)

// Commands are CACHE.CMD and its kin as descriptions; they cannot be called.
func Commands() []*cache.Command { return new(Manager).commands() }

// commands are those that manage the others.
func (m *Manager) commands() []*cache.Command {
	return []*cache.Command{
		{
			Name: "CACHE.CMD PUT", Summary: "Load a version of a command of your own; it does not run yet", Class: cache.Write, Args: []cache.Arg{argBundle}, Run: m.putCmd,
			Guards: []string{"for admins; the program is checked in a confined process"}, Examples: []string{"CACHE.CMD PUT <tar>"},
		},
		{Name: "CACHE.CMD CHECK", Summary: "Say every mistake of a bundle, with file and line", Class: cache.Read, Args: []cache.Arg{argBundle}, Run: m.checkCmd},
		{
			Name: "CACHE.CMD TEST", Summary: "Run a version's own tests against a throwaway server", Class: cache.LoadRead, Args: []cache.Arg{argName, argVersion}, Run: m.testCmd,
			Guards: []string{"the server is started for it on the gateway's machine and thrown away"}, Examples: []string{"CACHE.CMD TEST CACHE.X.NOTTL"},
		},
		{
			Name: "CACHE.CMD SHADOW", Summary: "Run a version on one node, throw the result away", Class: cache.LoadRead,
			Args: []cache.Arg{argName, argVersion, cache.ArgOn, {Name: "with", Keyword: "WITH", Type: cache.Rest, Optional: true, Help: "the command's arguments"}}, Run: m.shadowCmd,
			Examples: []string{"CACHE.CMD SHADOW CACHE.X.NOTTL ON role:replica WITH session:*"},
		},
		{
			Name: "CACHE.CMD PROMOTE", Summary: "Let a tested version run; calls that run go on with the one before", Class: cache.Write, Args: []cache.Arg{argName, argVersion}, Run: m.promoteCmd,
			Guards: []string{"for admins; a command that writes is promoted by someone else than who loaded it"}, Examples: []string{"CACHE.CMD PROMOTE CACHE.X.NOTTL"},
		},
		{Name: "CACHE.CMD ROLLBACK", Summary: "Go back to the version that ran before, or to none", Class: cache.Write, Args: []cache.Arg{argName}, Run: m.rollbackCmd, Guards: []string{"for admins"}, Examples: []string{"CACHE.CMD ROLLBACK CACHE.X.NOTTL"}},
		{Name: "CACHE.CMD LIST", Summary: "List operators' commands and their versions", Class: cache.Read, Args: []cache.Arg{cache.ArgFormat}, Run: m.listCmd},
		{
			Name: "CACHE.CMD DIFF", Summary: "Show what a version changes against the one that runs, or another", Class: cache.Read,
			Args:     []cache.Arg{argName, argVersion, {Name: "against", Keyword: "AGAINST", Optional: true, Public: true, Help: "the hash of another version; default: the one that runs, or the one loaded before"}, cache.ArgFormat},
			Examples: []string{"CACHE.CMD DIFF CACHE.X.NOTTL", "CACHE.CMD DIFF CACHE.X.NOTTL VERSION 0123456789ab AGAINST ba9876543210"}, Run: m.diffCmd,
		},
		{Name: "CACHE.CMD SHOW", Summary: "Show a version's manifest and program", Class: cache.Read, Args: []cache.Arg{argName, argVersion}, Run: m.showCmd},
	}
}

func admin(c *cache.Call) error {
	if c.User.Role != cache.Admin {
		return cache.Errorf(cache.CodeNoPerm, "ask an admin", "user %s is %s, and %s is for admins", c.User.Name, c.User.Role, c.Command.Name)
	}
	return nil
}

// findings is err as an error with every mistake in one line.
func findings(err error) error {
	if f, ok := errors.AsType[Findings](err); ok {
		return cache.Errorf(cache.CodeErr, "mend them and try again", "%d mistakes: %s", len(f), f.Error())
	}
	return cache.Errorf(cache.CodeErr, "mend it and try again", "%v", err)
}

// load reads a bundle and looks for every mistake, in the manifest and in the program.
func (m *Manager) load(ctx context.Context, c *cache.Call) (*Bundle, error) {
	b, err := ReadTar([]byte(c.Text("bundle")))
	f, inManifest := errors.AsType[Findings](err)
	if err != nil && !inManifest {
		return nil, findings(err)
	}
	check := b
	if inManifest { // its budgets cannot be relied on
		check = &Bundle{ProgramText: b.ProgramText, Manifest: Manifest{Budgets: Budgets{Wall: 10 * time.Second, Steps: 1e6, Memory: 64 << 20, Output: 1 << 20}}}
	}
	if err := m.runner.Check(ctx, check); err != nil {
		if ctx.Err() != nil {
			return nil, err
		}
		text := err.Error()
		if e, ok := errors.AsType[*cache.Error](err); ok {
			text = e.Msg
		}
		f = append(f, strings.Split(text, "; ")...)
	}
	if len(f) > 0 {
		return nil, findings(f)
	}
	return b, nil
}

func (m *Manager) checkCmd(ctx context.Context, c *cache.Call) (cache.Value, error) {
	b, err := m.load(ctx, c)
	if err != nil {
		return cache.Value{}, err
	}
	return cache.Dict("name", cache.String(b.Manifest.Name), "version", cache.String(b.Hash), "mistakes", cache.Number(0)), nil
}

func (m *Manager) putCmd(ctx context.Context, c *cache.Call) (cache.Value, error) {
	if err := admin(c); err != nil {
		return cache.Value{}, err
	}
	b, err := m.load(ctx, c)
	if err != nil {
		return cache.Value{}, err
	}
	name := b.Manifest.Name
	m.mu.Lock()
	defer m.mu.Unlock()
	st := &state{}
	if old := m.states[name]; old != nil {
		st = old.clone()
	}
	if st.find(b.Hash) == nil {
		st.Versions = append(st.Versions, loaded{Hash: b.Hash, Version: b.Manifest.Version, Author: c.User.Name, At: m.cfg.Now().UTC()})
		if len(st.Versions) > 50 {
			i := slices.IndexFunc(st.Versions, func(l loaded) bool { return l.Hash != st.Active && l.Hash != st.Previous })
			st.Versions = slices.Delete(st.Versions, i, i+1)
		}
	}
	if err := m.change(name, st, b, c, "command.loaded", name+" "+b.Manifest.Version+" ("+b.Short()+") was loaded; it does not run yet"); err != nil {
		return cache.Value{}, err
	}
	return cache.Dict("name", cache.String(name), "version", cache.String(b.Hash), "next", cache.String("CACHE.CMD TEST "+name)), nil
}

// change saves a state, puts the change on record and only then lets it count. mu is held.
func (m *Manager) change(name string, st *state, b *Bundle, c *cache.Call, kind, what string) error {
	st.Changed = m.cfg.Now().UTC()
	if err := m.store.save(name, st, b); err != nil {
		return cache.Errorf(cache.CodeErr, "make room on the disk of the gateway, or look at its permissions", "%s cannot be saved: %v", name, err)
	}
	if _, err := m.cfg.Log.Append(cache.Event{At: st.Changed, Who: c.User.Name, Kind: kind, Command: name, Job: c.Job, What: what}); err != nil {
		return err
	}
	m.states[name] = st
	return nil
}

// version finds the version that a call is about.
func (m *Manager) version(c *cache.Call) (string, loaded, *Bundle, error) {
	name := strings.ToUpper(c.Text("name"))
	m.mu.Lock()
	st := m.states[name]
	var l loaded
	found := st != nil && len(st.Versions) > 0
	if found {
		l = st.Versions[len(st.Versions)-1]
		if want := c.Text("version"); want != "" {
			one := st.find(want)
			if found = one != nil; found {
				l = *one
			}
		}
	}
	m.mu.Unlock()
	switch {
	case st == nil:
		return "", l, nil, cache.Errorf(cache.CodeErr, "CACHE.CMD LIST shows those that are loaded", "no command %s is loaded", clip(name))
	case !found:
		return "", l, nil, cache.Errorf(cache.CodeErr, "CACHE.CMD LIST shows its versions", "%s has no version %s", name, clip(c.Text("version")))
	}
	b, err := m.store.bundle(name, l.Hash)
	return name, l, b, err
}

// mark changes what is known of one version.
func (m *Manager) mark(c *cache.Call, name, hash, kind, what string, f func(*loaded)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	st := m.states[name].clone()
	if l := st.find(hash); l != nil {
		f(l)
	}
	return m.change(name, st, nil, c, kind, what)
}

func (m *Manager) testCmd(ctx context.Context, c *cache.Call) (cache.Value, error) {
	name, l, b, err := m.version(c)
	if err != nil {
		return cache.Value{}, err
	}
	if err := m.runner.Test(ctx, b, m.cfg.Server); err != nil {
		if _, ok := errors.AsType[Findings](err); ok {
			return cache.Value{}, findings(err)
		}
		return cache.Value{}, err
	}
	n := len(b.Manifest.Tests)
	if err := m.mark(c, name, l.Hash, "command.tested", fmt.Sprintf("%s %s passed its %d tests", name, b.Short(), n), func(l *loaded) { l.Tested = true }); err != nil {
		return cache.Value{}, err
	}
	return cache.Dict("name", cache.String(name), "version", cache.String(l.Hash), "passed", cache.Number(n), "next", cache.String("CACHE.CMD SHADOW "+name)), nil
}

func (m *Manager) shadowCmd(ctx context.Context, c *cache.Call) (cache.Value, error) {
	name, l, b, err := m.version(c)
	if err != nil {
		return cache.Value{}, err
	}
	call, err := b.command(nil).Parse(c.Rest("with"))
	if err != nil {
		return cache.Value{}, err
	}
	chosen, err := m.nodes(ctx, b, c.Select("on"))
	if err != nil {
		return cache.Value{}, err
	}
	if len(chosen.ok) == 0 {
		return cache.Value{}, cache.Errorf(cache.CodeUnreachable, "CACHE.NODES shows which nodes are there", "none of the chosen nodes answers")
	}
	n := chosen.ok[0]
	res, err := m.runner.Run(ctx, Order{Bundle: b, Args: b.args(call), Nodes: []*upstream.Node{n}, Job: c.Job})
	if err != nil {
		return cache.Value{}, err
	}
	if err := m.mark(c, name, l.Hash, "command.shadowed", fmt.Sprintf("%s %s ran on %s for %s, and its result was thrown away", name, b.Short(), n.Addr, res.Used.Wall.Round(time.Millisecond)), func(l *loaded) { l.Shadowed = true }); err != nil {
		return cache.Value{}, err
	}
	v := res.Used.value()
	v.Add("node", cache.String(n.Addr))
	v.Add("rows", cache.Number(len(res.Rows)))
	v.Add("writes_planned", cache.Number(len(res.Writes)))
	v.Add("next", cache.String("CACHE.CMD PROMOTE "+name))
	return v, nil
}

func (u Used) value() cache.Value {
	return cache.Dict("wall_ms", cache.Number(u.Wall.Milliseconds()), "commands", cache.Number(u.Commands), "keys", cache.Number(u.Keys), "output_bytes", cache.Number(u.Output))
}

func (m *Manager) promoteCmd(_ context.Context, c *cache.Call) (cache.Value, error) {
	if err := admin(c); err != nil {
		return cache.Value{}, err
	}
	name, l, b, err := m.version(c)
	switch {
	case err != nil:
		return cache.Value{}, err
	case !l.Tested:
		return cache.Value{}, cache.Errorf(cache.CodeErr, "CACHE.CMD TEST "+name, "%s %s has not passed its tests", name, b.Short())
	case b.Manifest.Class == cache.Write && l.Author == c.User.Name:
		return cache.Value{}, cache.Errorf(cache.CodeApproval, "another admin says CACHE.CMD PROMOTE "+name, "%s loaded %s, which writes, and cannot promote it as well", c.User.Name, name)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	st := m.states[name].clone()
	if st.Active != l.Hash {
		st.Previous, st.Active = st.Active, l.Hash
	}
	if err := m.change(name, st, nil, c, "command.promoted", fmt.Sprintf("%s %s runs from now on", name, b.Short())); err != nil {
		return cache.Value{}, err
	}
	if err := m.put(b, &l); err != nil {
		return cache.Value{}, err
	}
	return cache.Dict("name", cache.String(name), "active", cache.String(st.Active), "previous", cache.String(st.Previous), "shadowed", cache.Truth(l.Shadowed)), nil
}

func (m *Manager) rollbackCmd(_ context.Context, c *cache.Call) (cache.Value, error) {
	if err := admin(c); err != nil {
		return cache.Value{}, err
	}
	name := strings.ToUpper(c.Text("name"))
	m.mu.Lock()
	defer m.mu.Unlock()
	old := m.states[name]
	if old == nil || old.Active == "" {
		return cache.Value{}, cache.Errorf(cache.CodeErr, "CACHE.CMD LIST shows those that do", "no version of %s runs", clip(name))
	}
	st := old.clone()
	st.Active, st.Previous = st.Previous, ""
	var b *Bundle
	if st.Active != "" {
		var err error
		if b, err = m.store.bundle(name, st.Active); err != nil {
			return cache.Value{}, err
		}
	}
	what := name + " was taken out: there is no version before it"
	if b != nil {
		what = name + " went back to " + b.Short()
	}
	if err := m.change(name, st, nil, c, "command.rolled_back", what); err != nil {
		return cache.Value{}, err
	}
	if b == nil {
		m.cfg.Registry.Remove(name)
	} else if err := m.put(b, st.find(st.Active)); err != nil {
		return cache.Value{}, err
	}
	return cache.Dict("name", cache.String(name), "active", cache.String(st.Active), "was", cache.String(old.Active)), nil
}

func (m *Manager) listCmd(context.Context, *cache.Call) (cache.Value, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var names []string
	for name := range m.states {
		names = append(names, name)
	}
	slices.Sort(names)
	rows := cache.List()
	for _, name := range names {
		st := m.states[name]
		for _, l := range st.Versions {
			stands := ""
			switch {
			case l.Hash == st.Active:
				stands = "active"
			case l.Hash == st.Previous:
				stands = "previous"
			case l.Tested:
				stands = "tested"
			default:
				stands = "loaded"
			}
			rows.Items = append(rows.Items, cache.Dict("name", cache.String(name), "version", cache.String(l.Version), "hash", cache.String(l.Hash[:12]), "state", cache.String(stands),
				"author", cache.String(l.Author), "loaded", cache.String(l.At.Format(time.RFC3339)), "shadowed", cache.Truth(l.Shadowed)))
		}
	}
	return cache.Dict("rows", rows), nil
}

func (m *Manager) showCmd(_ context.Context, c *cache.Call) (cache.Value, error) {
	_, l, b, err := m.version(c)
	if err != nil {
		return cache.Value{}, err
	}
	return cache.Dict("hash", cache.String(l.Hash), "author", cache.String(l.Author), "manifest", cache.String(string(b.ManifestText)), "program", cache.String(string(b.ProgramText))), nil
}
