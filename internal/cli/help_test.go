package cli

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"charm.land/lipgloss/v2"
	"github.com/spf13/cobra"
)

// tree is every command, and run runs one command line without a control plane.
func tree() []*cobra.Command {
	var all []*cobra.Command
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		all = append(all, c)
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(newRoot(&app{Process: testProcess(&bytes.Buffer{}, &bytes.Buffer{})}))
	return all
}

func testProcess(out, errs *bytes.Buffer) Process {
	return Process{In: strings.NewReader(""), Out: out, Err: errs, Getenv: func(string) string { return "" }, Now: time.Now}
}

func run(args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = Run(context.Background(), args, testProcess(&out, &errs))
	return code, out.String(), errs.String()
}

func TestHelpFitsTheSmallestTerminal(t *testing.T) {
	for _, c := range tree() {
		if strings.HasPrefix(c.CommandPath(), "kernwave completion ") {
			continue // cobra's own words
		}
		args := append(strings.Fields(c.CommandPath())[1:], "--help")
		code, stdout, stderr := run(args...)
		if code != ExitOK || stderr != "" {
			t.Errorf("%s --help: exit code %d, %s", c.CommandPath(), code, stderr)
		}
		for line := range strings.Lines(stdout) {
			if strings.HasPrefix(line, "  kernwave ") {
				continue // an example, to be copied
			}
			if w := lipgloss.Width(strings.TrimRight(line, "\n")); w > helpWidth {
				t.Errorf("%s --help: %d columns: %s", c.CommandPath(), w, line)
			}
		}
	}
}

func TestEveryCommandExplainsItself(t *testing.T) {
	for _, c := range tree() {
		if c.Name() == "help" || strings.HasPrefix(c.CommandPath(), "kernwave completion") || c.IsAdditionalHelpTopicCommand() {
			continue // cobra's own
		}
		if c.Short == "" {
			t.Errorf("%s has no short description", c.CommandPath())
		}
		if c.Annotations[isGroup] == "" && c.Example == "" {
			t.Errorf("%s has no example", c.CommandPath())
		}
		for line := range strings.Lines(c.Example) {
			args := strings.Fields(strings.TrimPrefix(strings.TrimSpace(line), "kernwave"))
			found, _, err := c.Root().Find(args)
			if err != nil || found.CommandPath() != c.CommandPath() && c.HasParent() && !strings.HasPrefix(found.CommandPath(), c.CommandPath()) {
				t.Errorf("%s: example %q is not about it (%v)", c.CommandPath(), strings.TrimSpace(line), err)
			}
		}
	}
}
