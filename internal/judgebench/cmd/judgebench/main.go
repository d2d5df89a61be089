// Judgebench measures judges on rollouts with a known truth; see the package judgebench.
package main

import (
	"flag"
	"fmt"
	"os"

	"github.com/kernwave/kernwave/internal/judgebench"
)

const usage = `judgebench run PART [flags]      play a part and write what was counted: aa, rivals, power, mde, special, nuisance
judgebench table FILE…           add up what was counted, and print the tables
`

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "judgebench: error:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("what?\n%s", usage)
	}
	switch args[0] {
	case "run":
		fs := flag.NewFlagSet("run", flag.ContinueOnError)
		var o judgebench.Options
		fs.Uint64Var(&o.Seed, "seed", 1, "of everything")
		fs.IntVar(&o.From, "from", 0, "first rollout")
		fs.IntVar(&o.N, "rollouts", 10, "how many")
		fs.IntVar(&o.Workers, "workers", 0, "at once; 0: one per processor")
		only := fs.String("judge", "", "this one only")
		if len(args) < 2 {
			return fmt.Errorf("which part?\n%s", usage)
		}
		if err := fs.Parse(args[2:]); err != nil {
			return err
		}
		if *only != "" {
			o.Only = []string{*only}
		}
		t, err := judgebench.Run(args[1], o)
		if err != nil {
			return err
		}
		return t.Write(os.Stdout)
	case "table":
		sum, err := judgebench.ReadTallies(args[1:])
		if err != nil {
			return err
		}
		return sum.Table(os.Stdout)
	}
	return fmt.Errorf("%s?\n%s", args[0], usage)
}
