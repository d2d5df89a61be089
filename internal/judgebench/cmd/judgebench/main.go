// Judgebench measures judges on rollouts with a known truth; see the package judgebench.
package main

import (
	"compress/gzip"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/kernwave/kernwave/internal/judgebench"
)

const usage = `judgebench run PART [flags]      play a part and write what was counted (-h: flags): aa, rivals, aa-uneasy, rivals-uneasy, power, mde, plan, special, nuisance
judgebench table FILE…           add up what was counted, and print the tables
judgebench cases [flags]         write cases for kernwave judge, and their labels
judgebench score LABELS VERDICTS compare what kernwave judge said with the labels
judgebench placebo [flags] CASES judge cases with random hosts taken for the treated ones, and count false alarms

A name that ends in .gz is of a compressed file. For example:

  go run ./internal/judgebench/cmd/judgebench cases --rollouts 4 --cases cases.ndjson.gz --labels labels.ndjson
  kernwave judge --cases cases.ndjson.gz --out verdicts.ndjson
  go run ./internal/judgebench/cmd/judgebench score labels.ndjson verdicts.ndjson
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
		fs.DurationVar(&o.Every, "every", 0, "between the looks of aa; 0: a minute")
		only := fs.String("judge", "", "these only, by name, with ; between them")
		if len(args) < 2 {
			return fmt.Errorf("which part?\n%s", usage)
		}
		if err := fs.Parse(args[2:]); err != nil {
			return err
		}
		if *only != "" {
			o.Only = strings.Split(*only, ";")
		}
		t, err := judgebench.Run(args[1], o)
		if err != nil {
			return err
		}
		return t.Write(os.Stdout)
	case "cases":
		return cases(args[1:])
	case "score":
		return score(args[1:])
	case "placebo":
		return placebo(args[1:])
	case "table":
		sum, err := judgebench.ReadTallies(args[1:])
		if err != nil {
			return err
		}
		return sum.Table(os.Stdout)
	}
	return fmt.Errorf("%s?\n%s", args[0], usage)
}

func score(args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("score takes a file of labels and one of verdicts\n%s", usage)
	}
	labels, err := open(args[0])
	if err != nil {
		return err
	}
	defer labels.Close()
	verdicts, err := open(args[1])
	if err != nil {
		return err
	}
	defer verdicts.Close()
	s, err := judgebench.ScoreFiles(labels, verdicts)
	if err != nil {
		return err
	}
	s.Print(os.Stdout)
	return nil
}

func placebo(args []string) error {
	fs := flag.NewFlagSet("placebo", flag.ContinueOnError)
	var o judgebench.PlaceboOptions
	fs.Uint64Var(&o.Seed, "seed", 1, "of the draws")
	fs.IntVar(&o.Draws, "draws", 20, "how many per case")
	fs.BoolVar(&o.Unchanged, "unchanged", false, "nothing changed in these cases: their treated hosts are taken like controls")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if fs.NArg() != 1 {
		return fmt.Errorf("placebo takes a file of cases\n%s", usage)
	}
	in, err := open(fs.Arg(0))
	if err != nil {
		return err
	}
	defer in.Close()
	p, err := judgebench.Placebos(in, o)
	if err != nil {
		return fmt.Errorf("%s: %w", fs.Arg(0), err)
	}
	p.Print(os.Stdout)
	return nil
}

func cases(args []string) error {
	fs := flag.NewFlagSet("cases", flag.ContinueOnError)
	var spec judgebench.Spec
	seed := fs.Uint64("seed", 1, "of everything")
	from := fs.Int("from", 0, "first rollout")
	n := fs.Int("rollouts", 1, "how many")
	out := fs.String("cases", "cases.ndjson.gz", "file to write cases to")
	labels := fs.String("labels", "labels.ndjson", "file to write labels to")
	kind := fs.String("kind", "", "what happened to cells: level, tail, leak, variance, warmup, surge, outlier_control, outlier_treated, missing, lost, idle")
	size := fs.Float64("size", 0.1, "of it")
	share := fs.Float64("share", 0.15, "of the cells it happened to")
	fs.IntVar(&spec.Types, "types", 12, "host types per rollout")
	fs.IntVar(&spec.StepS, "step", 60, "seconds between samples")
	fs.DurationVar(&spec.Before, "before", 4*time.Hour, "before the change")
	fs.DurationVar(&spec.After, "after", 4*time.Hour, "after it")
	every := fs.Duration("looks-every", 10*time.Minute, "between two looks")
	treated := fs.Int("treated", 0, "treated hosts per type; 0: 2, 3 or 5")
	controls := fs.Int("controls", 0, "controls per type; 0: 20 or 50")
	fs.BoolVar(&spec.Reboots, "reboots", false, "controls were rebooted as well")
	fs.BoolVar(&spec.Uneasy, "uneasy", false, "how noisy a host is comes and goes within hours")
	fs.BoolVar(&spec.Work, "work", false, "with a signal of the work that hosts carry")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if *kind != "" {
		spec.Plan = judgebench.Plan{Effects: []judgebench.Effect{{Kind: judgebench.Kind(*kind), Size: *size}}, Share: *share}
	}
	if *treated > 0 {
		spec.Treated = []int{*treated}
	}
	if *controls > 0 {
		spec.Controls = []int{*controls}
	}
	spec.Looks = judgebench.Every(*every, spec.After)
	c, err := create(*out)
	if err != nil {
		return err
	}
	l, err := create(*labels)
	if err != nil {
		return errors.Join(err, c.Close())
	}
	return errors.Join(judgebench.WriteCases(spec, *seed, *from, *n, c, l), c.Close(), l.Close())
}

// open opens a file, compressed or not.
func open(name string) (io.ReadCloser, error) {
	f, err := os.Open(name)
	if err != nil || !strings.HasSuffix(name, ".gz") {
		return f, err
	}
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", name, err), f.Close())
	}
	return z, nil // the file is closed when the program ends
}

// zipped is a compressed file that is written.
type zipped struct {
	*gzip.Writer
	f *os.File
}

func (z zipped) Close() error { return errors.Join(z.Writer.Close(), z.f.Close()) }

func create(name string) (io.WriteCloser, error) {
	f, err := os.Create(name)
	if err != nil || !strings.HasSuffix(name, ".gz") {
		return f, err
	}
	return zipped{gzip.NewWriter(f), f}, nil
}
