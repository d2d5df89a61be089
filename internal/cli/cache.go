package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kernwave/kernwave/cache"
	"github.com/kernwave/kernwave/cache/builtin"
	"github.com/kernwave/kernwave/cache/script"
)

// cacheFlags say where the commands of `kernwave cache` are carried out.
type cacheFlags struct {
	seeds    []string // a fleet without configuration
	clusters string   // a file
	gateway  string   // a gateway that runs
	user     string   // towards it
}

const envGateway = "KERNWAVE_CACHE"

const cacheLong = `Commands over whole fleets of Redis and Valkey nodes, beside the customers' data path: they look, and under
conditions change, without a restart and without being felt. "kernwave cache serve" is a gateway that any Redis
client can call; the other commands do the same from here.

Each command is carried out where you say: by a gateway that runs (--gateway, or $KERNWAVE_CACHE), or by this
program itself, over the nodes that it finds from --seed or that a --clusters file names. By itself it reads; what
changes something goes through a gateway, which knows who you are.`

func (a *app) cacheCommand() *cobra.Command {
	var f cacheFlags
	cmd := &cobra.Command{Use: "cache", Short: "commands over fleets of Redis and Valkey nodes", Long: cacheLong}
	p := cmd.PersistentFlags()
	p.StringSliceVar(&f.seeds, "seed", nil, "`HOST:PORT` of any node or Sentinel of a fleet; more with commas")
	p.StringVar(&f.clusters, "clusters", "", "`FILE` that names clusters, and how to log in on their nodes")
	p.StringVar(&f.gateway, "gateway", "", "`HOST:PORT` of a gateway that runs")
	p.StringVar(&f.user, "user", "", "`NAME` to log in with on the gateway; the secret is in --token-file")
	cmd.AddCommand(a.cacheServeCommand(&f), a.cacheDoCommand(&f))
	groups := map[string]*cobra.Command{}
	for _, c := range cacheRegistry().Commands() {
		name := strings.ToLower(strings.TrimPrefix(c.Name, "CACHE."))
		parent := cmd
		for at := ""; strings.Contains(name, " "); {
			base, sub, _ := strings.Cut(name, " ")
			at = strings.TrimSpace(at + " " + base)
			if groups[at] == nil {
				groups[at] = &cobra.Command{Use: base, Short: cacheGroups[at]}
				parent.AddCommand(groups[at])
			}
			parent, name = groups[at], sub
		}
		parent.AddCommand(a.cacheOne(&f, c, name))
	}
	return cmd
}

// cacheGroups are the commands that have subcommands.
var cacheGroups = map[string]string{
	"key": "look at one key", "eviction": "understand eviction", "config": "compare settings and change them for a while", "job": "look after calls that run",
	"bulk":        "look after changes of many keys",
	"config temp": "change a setting for a while; it takes itself back", "cmd": "commands of your own: load, test, shadow, promote, roll back",
}

// cacheRegistry holds the commands' descriptions; none of them can be run.
func cacheRegistry() *cache.Registry {
	g := &cache.Gateway{Registry: cache.NewRegistry()}
	if err := builtin.Register(builtin.Deps{Gateway: g}); err != nil {
		panic(err)
	}
	for _, c := range stateCommands() {
		if err := g.Registry.Put(c); err != nil {
			panic(err)
		}
	}
	return g.Registry
}

// cacheOne is one command of the registry, its arguments as flags.
func (a *app) cacheOne(f *cacheFlags, c *cache.Command, name string) *cobra.Command {
	use, positional := name, []string(nil)
	optional := 0
	rest := false
	values := map[string]*string{}
	flags := map[string]*bool{}
	cmd := &cobra.Command{Short: c.Summary, Long: cacheHelp(c)}
	for _, arg := range c.Args {
		word := strings.ToUpper(arg.Name)
		switch {
		case arg.Keyword == "" && arg.Type == cache.Rest:
			rest = true
			use += " " + word + "…"
		case arg.Keyword == "":
			positional = append(positional, word)
			if arg.Optional {
				optional++
				word = "[" + word + "]"
			}
			use += " " + word
		case arg.Keyword == "FORMAT": // -o json
		case arg.Type == cache.Flag:
			flags[arg.Keyword] = cmd.Flags().Bool(strings.ToLower(arg.Keyword), false, arg.Help)
		default:
			help := strings.ReplaceAll(arg.Help, "`", "'")
			if len(arg.Enum) > 0 {
				help += ": " + strings.Join(arg.Enum, ", ")
			}
			v := cmd.Flags().String(strings.ToLower(arg.Keyword), arg.Default, help)
			values[arg.Keyword] = v
			if len(arg.Enum) > 0 {
				_ = cmd.RegisterFlagCompletionFunc(strings.ToLower(arg.Keyword), cobra.FixedCompletions(arg.Enum, cobra.ShellCompDirectiveNoFileComp))
			}
		}
	}
	cmd.Use = use
	for _, e := range c.Examples {
		cmd.Example += "  kernwave " + a.cacheExample(c, e) + "\n"
	}
	if cmd.Example == "" {
		cmd.Example = "  kernwave " + strings.TrimSpace(a.cacheExample(c, c.Name)+" "+strings.Join(positional, " "))
	}
	cmd.Example = strings.TrimSuffix(cmd.Example, "\n")
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		need := positional[:len(positional)-optional]
		if rest || len(args) >= len(need) && len(args) <= len(positional) {
			return nil
		}
		return arguments(need...)(cmd, args)
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 && len(c.Args) > 0 && c.Args[0].Name == "bundle" { // a folder here, an archive on the wire
			b, err := script.ReadDir(args[0])
			if _, mistakes := errors.AsType[script.Findings](err); err != nil && !mistakes { // the gateway says them, and the program's
				return &usageError{plainPathError(err).Error(), "name the folder of a bundle"}
			}
			args = append([]string{string(b.Tar())}, args[1:]...)
		}
		words := append(strings.Fields(c.Name), args...)
		for _, arg := range c.Args {
			name := strings.ToLower(arg.Keyword)
			switch {
			case arg.Keyword == "" || !cmd.Flags().Changed(name):
			case arg.Type == cache.Flag:
				if *flags[arg.Keyword] {
					words = append(words, arg.Keyword)
				}
			case arg.Type == cache.Rest:
				words = append(append(words, arg.Keyword), strings.Fields(*values[arg.Keyword])...)
			default:
				words = append(words, arg.Keyword, *values[arg.Keyword])
			}
		}
		return a.cacheCall(cmd.Context(), f, c, words)
	}
	return cmd
}

// cacheHelp is what a command says of itself, with what bounds it.
func cacheHelp(c *cache.Command) string {
	parts := []string{c.Summary + "."}
	parts[0] = strings.ToUpper(parts[0][:1]) + parts[0][1:]
	if c.Help != "" {
		parts = append(parts, strings.Split(c.Help, "\n")...)
	}
	if len(c.Guards) > 0 {
		parts = append(parts, "What bounds it: "+strings.Join(c.Guards, "; ")+".")
	}
	parts = append(parts, fmt.Sprintf("Over the Redis protocol this is %s, a %s command.", c.Name, c.Class))
	return strings.Join(parts, "\n\n")
}

// cacheExample writes a call of the registry as a command line.
func (a *app) cacheExample(c *cache.Command, call string) string {
	words := strings.Fields(strings.TrimPrefix(call, c.Name))
	line := []string{"cache", strings.ToLower(strings.TrimPrefix(c.Name, "CACHE."))}
	for i := 0; i < len(words); i++ {
		var arg *cache.Arg
		for j := range c.Args {
			if c.Args[j].Keyword != "" && c.Args[j].Keyword == words[i] {
				arg = &c.Args[j]
			}
		}
		switch {
		case arg == nil:
			line = append(line, shellWordOf(words[i]))
		case arg.Type == cache.Flag:
			line = append(line, "--"+strings.ToLower(words[i]))
		case i+1 < len(words):
			line = append(line, "--"+strings.ToLower(words[i]), shellWordOf(words[i+1]))
			i++
		}
	}
	return strings.Join(line, " ")
}

// cacheDoCommand sends a call as it is written over the protocol: for operators' own commands, which this program does
// not know.
func (a *app) cacheDoCommand(f *cacheFlags) *cobra.Command {
	return &cobra.Command{
		Use: "do WORD…", Short: "carry out a call as it is written over the Redis protocol",
		Long:    "Carries out any call, also one of an operator's own command, written as redis-cli takes it.",
		Example: "  kernwave cache do CACHE.NODES ON role:replica\n  kernwave cache do CACHE.X.STALE AGE 90d",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return arguments("WORD…")(cmd, args)
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			c, _ := cacheRegistry().Find(args)
			return a.cacheCall(cmd.Context(), f, c, args)
		},
	}
}

// cacheCall carries out a call where the flags say, and prints the reply. c may be nil.
func (a *app) cacheCall(ctx context.Context, f *cacheFlags, c *cache.Command, words []string) error {
	door, err := a.cacheDoor(ctx, f)
	if err != nil {
		return err
	}
	defer door.close()
	bar := a.newCacheBar()
	v, err := door.do(ctx, words, bar.show)
	bar.done()
	if err != nil {
		return cacheError(ctx, err)
	}
	return a.printCache(c, v)
}
