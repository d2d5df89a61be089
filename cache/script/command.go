package script

import (
	"strings"

	"github.com/kernwave/kernwave/cache"
)

// command is the bundle as an entry of the registry. run nil: for parsing arguments only.
func (b *Bundle) command(run cache.Handler) *cache.Command {
	m := &b.Manifest
	c := &cache.Command{
		Name: m.Name, Summary: m.Summary, Help: strings.TrimSpace(m.Help + "\nowner: " + m.Owner + ", version " + m.Version + " (" + b.Short() + ")"),
		Class: m.Class, Args: append([]cache.Arg(nil), m.Args...), Needs: "any", Reply: m.Reply, Version: b.Hash, Plans: m.Class == cache.Write, Run: run,
		Guards: []string{
			"a process of its own, ended after " + m.Budgets.Wall.String() + " or when it needs more memory than its budget",
			"sends to nodes only what its manifest lists: " + strings.Join(m.Commands, ", "),
		},
	}
	c.Args = append(c.Args, cache.ArgOn, cache.ArgFormat)
	if m.Class != cache.Read {
		c.Guards = append(c.Guards, "one machine and one shard at a time, with pauses in between")
	}
	if m.Class == cache.Write {
		c.Args = append(c.Args, cache.ArgDryRun, cache.ArgApprove)
		c.Guards = append(c.Guards, "writes nothing but a plan that another person has approved")
	}
	return c
}

// args is what the program gets: every argument of the manifest, as text, number or truth.
func (b *Bundle) args(c *cache.Call) cache.Value {
	v := cache.Value{Kind: cache.Map}
	for _, a := range b.Manifest.Args {
		switch {
		case a.Type == cache.Flag:
			v.Add(a.Name, cache.Truth(c.Flag(a.Name)))
		case !c.Given(a.Name) && a.Default == "":
			v.Add(a.Name, cache.Value{})
		case a.Type == cache.Integer || a.Type == cache.Size:
			v.Add(a.Name, cache.Number(c.Int(a.Name)))
		case a.Type == cache.Decimal:
			v.Add(a.Name, cache.Real(c.Float(a.Name)))
		case a.Type == cache.Duration:
			v.Add(a.Name, cache.Real(c.Duration(a.Name).Seconds()))
		default:
			v.Add(a.Name, cache.String(c.Text(a.Name)))
		}
	}
	return v
}
