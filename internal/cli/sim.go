package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kernwave/kernwave/internal/sim"
	"github.com/kernwave/kernwave/internal/sim/scenarios"
)

func (a *app) simCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "sim", Short: "rehearse a rollout on a fleet that does not exist",
		Long: `The simulator plays a scenario: simulated hosts, with kernels and faults as you describe them, under the
real control loop, store and API, in virtual time, from one seed. After every step it checks that the promises
of Kernwave are kept. It needs no control plane and no settings.`,
	}
	cmd.AddCommand(a.simRunCommand(), a.simListCommand(), a.simShowCommand(), a.simRandomCommand())
	return cmd
}

// simFlags are what both ways to run have.
type simFlags struct {
	seed     uint64
	seeds    int
	parallel int
	trace    string
}

// maxSeeds is how many seeds one command runs: a day's work.
const maxSeeds = 1_000_000

func (f *simFlags) add(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.Uint64Var(&f.seed, "seed", 1, "what is left to chance comes from this `NUMBER`")
	fs.IntVar(&f.seeds, "seeds", 0, "run so `MANY` seeds, from --seed on, to the first broken promise")
	fs.IntVar(&f.parallel, "parallel", 0, "how `MANY` seeds at a time (default: one per processor)")
	fs.StringVar(&f.trace, "trace", "", "write every event to `FILE`; - is the standard output")
}

// check finds combinations that make no sense.
func (f *simFlags) check(a *app, cmd *cobra.Command) error {
	many := cmd.Flags().Changed("seeds")
	switch {
	case many && (f.seeds < 1 || f.seeds > maxSeeds):
		return &usageError{fmt.Sprintf("--seeds %d is not allowed", f.seeds), fmt.Sprintf("use 1 to %d", maxSeeds)}
	case f.parallel < 0 || f.parallel > 1024:
		return &usageError{fmt.Sprintf("--parallel %d is not allowed", f.parallel), "use 1 to 1024; more than there are processors is no faster"}
	case many && f.trace != "":
		return &usageError{"--trace goes with one seed", "leave --seeds out, and name the seed with --seed"}
	case many && f.seed+uint64(f.seeds-1) < f.seed:
		return &usageError{"the seeds end at 18446744073709551615", "begin lower, or run fewer"}
	case f.trace == "-" && a.json():
		return &usageError{"--trace - and -o json both write to the standard output", "write the trace to a file"}
	}
	if f.parallel == 0 {
		f.parallel = runtime.GOMAXPROCS(0)
	}
	return nil
}

func (a *app) simRunCommand() *cobra.Command {
	var flags simFlags
	cmd := &cobra.Command{
		Use: "run SCENARIO", Short: "play a scenario and check the promises",
		Long: `Plays a scenario: a file, "-" for the standard input, or the name of one that is shipped. The same scenario and
seed give the same result.

Exit codes: 0 when every promise was kept, whatever became of the rollout; 1 when one was broken: the
report says which, on which hosts, how it came to that, and how to see it again; 2 when the scenario is
wrong: every mistake is listed with its line.`,
		Example: `  kernwave sim run never-boots
  kernwave sim run my-fleet.yaml --seed 7 --trace events.log
  kernwave sim run my-fleet.yaml --seeds 200
  kernwave sim run bad-network --seed 3 -o json`,
		Args: arguments("SCENARIO"), ValidArgsFunction: completeScenarios(cobra.ShellCompDirectiveDefault),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := flags.check(a, cmd); err != nil {
				return err
			}
			s, err := a.scenario(args[0])
			if err != nil {
				return err
			}
			again := "kernwave sim run " + shellWordOf(args[0])
			play := func(seed uint64) (sim.Scenario, string) { return s, fmt.Sprintf("%s --seed %d", again, seed) }
			if args[0] == "-" {
				play = func(seed uint64) (sim.Scenario, string) {
					return s, fmt.Sprintf("kernwave sim run - --seed %d, with the same scenario on its standard input", seed)
				}
			}
			return a.simulate(cmd, flags, play)
		},
	}
	flags.add(cmd)
	return cmd
}

func (a *app) simListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "list the scenarios that are shipped", Args: arguments(),
		Example: "  kernwave sim list",
		RunE: func(*cobra.Command, []string) error {
			type entry struct {
				Name  string `json:"name"`
				About string `json:"about"`
				Hosts int    `json:"hosts"`
				Types int    `json:"types"`
			}
			list := []entry{}
			t := &table{head: []string{"SCENARIO", "HOSTS", "WHAT IT SHOWS"}, prose: true}
			for _, name := range scenarios.Names() {
				s, err := scenarios.Shipped(name)
				if err != nil {
					return err
				}
				e := entry{Name: name, About: strings.TrimSpace(s.About), Types: len(s.Fleet.Types)}
				for _, ty := range s.Fleet.Types {
					e.Hosts += ty.Hosts
				}
				list = append(list, e)
				t.add(e.Name, strconv.Itoa(e.Hosts), clean(e.About))
			}
			if a.json() {
				return printJSON(a.Out, "scenarios", map[string]any{"scenarios": list})
			}
			if err := a.printList(t); err != nil {
				return err
			}
			a.note("", `"kernwave sim show NAME" prints one, to begin your own with; "kernwave sim run NAME" plays it`)
			return nil
		},
	}
}

func (a *app) simShowCommand() *cobra.Command {
	return &cobra.Command{
		Use: "show NAME", Short: "print a shipped scenario, to begin your own with",
		Example: "  kernwave sim show never-boots > my-fleet.yaml",
		Args:    arguments("NAME"), ValidArgsFunction: completeScenarios(cobra.ShellCompDirectiveNoFileComp),
		Annotations: map[string]string{writesYAML: "yes"},
		RunE: func(_ *cobra.Command, args []string) error {
			text, ok := scenarios.Text(args[0])
			if !ok {
				return noScenario(args[0])
			}
			if a.json() {
				s, err := scenarios.Shipped(args[0])
				if err != nil {
					return err
				}
				return printJSON(a.Out, "scenario", map[string]any{"name": s.Name, "about": strings.TrimSpace(s.About), "yaml": string(text)})
			}
			_, err := a.Out.Write(text)
			return err
		},
	}
}

func (a *app) simRandomCommand() *cobra.Command {
	var flags simFlags
	cmd := &cobra.Command{
		Use: "random", Short: "play the random fleet of a seed, with every kind of fault",
		Long: `Draws a small fleet, its kernel's faults, and faults of hosts, network and control plane from the seed, and
plays it. The tests of Kernwave play thousands of them; this plays the one that failed again. With -o yaml it prints
the scenario instead, to be changed and given to "kernwave sim run" with the same seed.`,
		Example: `  kernwave sim random --seed 7141
  kernwave sim random --seed 7141 -o yaml > 7141.yaml
  kernwave sim random --seed 1 --seeds 1000`,
		Args: arguments(), Annotations: map[string]string{writesYAML: "yes"},
		RunE: func(cmd *cobra.Command, _ []string) error {
			if a.output == "yaml" {
				if cmd.Flags().Changed("seeds") || flags.trace != "" {
					return &usageError{"-o yaml prints one scenario and plays nothing", "leave --seeds and --trace out"}
				}
				_, err := a.Out.Write(scenarios.Print(sim.Random(flags.seed)))
				return err
			}
			if err := flags.check(a, cmd); err != nil {
				return err
			}
			return a.simulate(cmd, flags, func(seed uint64) (sim.Scenario, string) {
				return sim.Random(seed), fmt.Sprintf("kernwave sim random --seed %d", seed)
			})
		},
	}
	flags.add(cmd)
	return cmd
}

// scenario reads what SCENARIO names. A name with a dot or a slash is a file's; another one is shipped or, when there is none
// of that name, a file's too.
func (a *app) scenario(name string) (sim.Scenario, error) {
	if text, ok := scenarios.Text(name); ok {
		return scenarios.Parse(name+".yaml", text)
	}
	if name == "-" {
		b, err := io.ReadAll(io.LimitReader(a.In, scenarios.MaxBytes+1))
		if err != nil {
			return sim.Scenario{}, &usageError{"read the scenario from the standard input: " + err.Error(), "give it a file instead"}
		}
		return scenarios.Parse("standard input", b)
	}
	b, err := readScenario(name)
	if errors.Is(err, os.ErrNotExist) && !strings.ContainsAny(name, "./") {
		return sim.Scenario{}, noScenario(name)
	}
	if err != nil {
		return sim.Scenario{}, &usageError{"read the scenario: " + err.Error(), `name a file, "-", or one of "kernwave sim list"`}
	}
	return scenarios.Parse(name, b)
}

// readScenario reads no more than a scenario may have: a device or a pipe may never end.
func readScenario(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, plainPathError(err)
	}
	defer f.Close()
	var b bytes.Buffer
	_, err = io.Copy(&b, io.LimitReader(f, scenarios.MaxBytes+1))
	return b.Bytes(), plainPathError(err)
}

func noScenario(name string) error {
	next := `"kernwave sim list" shows those that are shipped`
	if near := nearest(name, scenarios.Names()); len(near) > 0 {
		next = "did you mean " + strings.Join(near, " or ") + "? " + next
	}
	return &usageError{fmt.Sprintf("there is no scenario %q, and no file of that name", name), next}
}

// completeScenarios completes the name of a shipped scenario, or else what the directive says.
func completeScenarios(otherwise cobra.ShellCompDirective) cobra.CompletionFunc {
	return func(_ *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var names []string
		for _, name := range scenarios.Names() {
			if strings.HasPrefix(name, typed) {
				names = append(names, name)
			}
		}
		return names, otherwise
	}
}

// shellWordOf writes a word so that it can be pasted into a shell.
func shellWordOf(s string) string {
	safe := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./+:@", r)
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !safe(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
