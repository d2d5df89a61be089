package cli

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/judgecase"
)

func (a *app) judgeCommand() *cobra.Command {
	var cases, out string
	cmd := &cobra.Command{
		Use: "judge --cases FILE", Short: "compare hosts on a new kernel with hosts on the old one",
		Long: `Reads cases, one JSON object a line: hosts of one type, treated and controls, with their series before and after
the change; and writes a verdict, one JSON object a line, for each signal at each look: pass, regression or
inconclusive, with the effect, an interval that is right at all looks together, and the reason. Cases of one rollout
are judged as one family: when nothing changed, at most one rollout in twenty shows a false regression, however often
you look. "docs/internals/judge.md" in the sources describes the format and the method.

A line that is wrong is named and left out; the others are judged, and the exit code is 1. It needs no control plane
and no settings.`,
		Example: `  kernwave judge --cases cases.ndjson --out verdicts.ndjson
  kernwave judge --cases cases.ndjson.gz | jq 'select(.verdict == "regression")'
  kernwave judge --cases - --out - < cases.ndjson`,
		Args: arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cases == "" {
				return &usageError{"judge needs --cases", "name a file of cases, or - for the standard input"}
			}
			if a.json() && out == "-" {
				return &usageError{"-o json prints a summary where --out - writes the verdicts", "name a file with --out, or leave -o out: verdicts are JSON anyway"}
			}
			return a.judge(cmd.Context(), cases, out)
		},
	}
	cmd.Flags().StringVar(&cases, "cases", "", "`FILE` of cases, also compressed with gzip; - is the standard input")
	cmd.Flags().StringVar(&out, "out", "-", "`FILE` for the verdicts, compressed when it ends in .gz; - is the standard output")
	completeFiles(cmd, "cases", "out")
	cmd.AddCommand(a.judgeExplainCommand(), a.judgePlanCommand())
	return cmd
}

// completeFiles lets the shell complete flags that name files.
func completeFiles(cmd *cobra.Command, flags ...string) {
	for _, f := range flags {
		_ = cmd.RegisterFlagCompletionFunc(f, func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveDefault
		})
	}
}

func (a *app) judge(ctx context.Context, cases, out string) error {
	in, err := a.openCases(cases)
	if err != nil {
		return err
	}
	defer in.Close()
	w, err := a.createVerdicts(out)
	if err != nil {
		return err
	}
	bar := a.newSimBar(simFlags{})
	run := judgecase.Run{
		Bad: func(e *judgecase.LineError) {
			bar.done()
			a.say("error:", palette.bad, fmt.Sprintf("%s: %v", in.name, e))
		},
		Progress: func(s judgecase.Summary) {
			bar.draw(func() string {
				return fmt.Sprintf("%d cases, %d MB read", s.Cases, in.read>>20)
			})
		},
		Stop: ctx.Err,
	}
	if out == "-" && isTerminal(a.Out) {
		bar.on = false // verdicts would run into it
	}
	sum, err := run.Judge(in, w)
	bar.done()
	if err != nil {
		w.discard()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return &fleet.Error{Op: "judge " + in.name, Err: plainPathError(err), Next: "check that the file is whole; the lines before were fine"}
	}
	if err := w.close(); err != nil {
		return &fleet.Error{Op: "write verdicts", Err: plainPathError(err), Next: "make room, or name another file with --out"}
	}
	if a.json() {
		if err := printJSON(a.Out, "judged", sum); err != nil {
			return err
		}
	}
	if sum.BadLines > 0 {
		return &advised{
			fmt.Errorf("%s of %s could not be judged; %s were", counted(sum.BadLines, "line"), in.name, counted(sum.Cases, "case")),
			"mend or remove the lines named above: their signals are missing from the family, and they have no verdict",
		}
	}
	a.note(fmt.Sprintf("%s of %s: at the last look %s, %d passed, %d inconclusive", counted(sum.Cases, "case"), counted(sum.Rollouts, "rollout"),
		counted(sum.Regression, "regression"), sum.Pass, sum.Inconclusive), "")
	return nil
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// caseFile is an input of cases that counts what was read.
type caseFile struct {
	io.Reader
	io.Closer
	name string
	read int64
}

func (c *caseFile) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.read += int64(n)
	return n, err
}

// openCases opens a file of cases, or the standard input for "-".
func (a *app) openCases(name string) (*caseFile, error) {
	if name == "-" {
		return &caseFile{Reader: a.In, Closer: io.NopCloser(nil), name: "standard input"}, nil
	}
	f, err := os.Open(name)
	if err == nil {
		var info os.FileInfo
		if info, err = f.Stat(); err == nil && info.IsDir() {
			err = fmt.Errorf("%s: it is a directory", name)
		}
		if err != nil {
			f.Close()
		}
	}
	if err != nil {
		return nil, &usageError{"read cases: " + plainPathError(err).Error(), "name a file of cases, or - for the standard input"}
	}
	return &caseFile{Reader: f, Closer: f, name: name}, nil
}

// verdictFile is an output that appears under its name only when it is whole.
type verdictFile struct {
	io.Writer
	zip  *gzip.Writer
	f    *os.File
	name string // to be renamed to; empty: it is written in place
}

func (a *app) createVerdicts(name string) (*verdictFile, error) {
	if name == "-" {
		return &verdictFile{Writer: a.Out}, nil
	}
	bad := func(err error) error {
		return &usageError{"write verdicts: " + plainPathError(err).Error(), "name a file that can be written with --out"}
	}
	v := &verdictFile{}
	var err error
	if info, statErr := os.Stat(name); statErr == nil && !info.Mode().IsRegular() {
		if info.IsDir() {
			return nil, bad(errors.New(name + ": it is a directory"))
		}
		v.f, err = os.OpenFile(name, os.O_WRONLY, 0) // a device or a pipe
	} else {
		v.name = name
		v.f, err = os.OpenFile(filepath.Join(filepath.Dir(name), "."+filepath.Base(name)+".part"), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644)
	}
	if err != nil {
		return nil, bad(err)
	}
	v.Writer = v.f
	if strings.HasSuffix(name, ".gz") {
		v.zip = gzip.NewWriter(v.f)
		v.Writer = v.zip
	}
	return v, nil
}

func (v *verdictFile) close() error {
	if v.f == nil {
		return nil
	}
	var err error
	if v.zip != nil {
		err = v.zip.Close()
	}
	err = errors.Join(err, v.f.Close())
	if err == nil && v.name != "" {
		err = os.Rename(v.f.Name(), v.name)
	}
	return err
}

// discard forgets what was written.
func (v *verdictFile) discard() {
	if v.f == nil {
		return
	}
	_ = v.f.Close()
	if v.name != "" {
		_ = os.Remove(v.f.Name())
	}
}
