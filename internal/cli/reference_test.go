package cli

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

const referenceFile = "../../docs/reference/cli.md"

// TestReference keeps the reference in step with the commands: go test ./internal/cli -run Reference -update
func TestReference(t *testing.T) {
	want := reference()
	if *update {
		if err := os.WriteFile(referenceFile, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(referenceFile)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("%s is not what the commands say; next: go test ./internal/cli -run Reference -update\n%s", referenceFile, diff)
	}
}

// reference is every command in one page, from the commands themselves.
func reference() string {
	var b strings.Builder
	all := tree()
	root := all[0]
	fmt.Fprintf(&b, "<!-- Written by go test ./internal/cli -run Reference -update. DO NOT EDIT. -->\n\n# The kernwave command\n\n%s\n\n", root.Long)
	b.WriteString("Contents: ")
	var links []string
	for _, c := range all {
		if documented(c) && c.Parent() == root {
			links = append(links, fmt.Sprintf("[%s](#%s)", c.Name(), anchor(c)))
		}
	}
	b.WriteString(strings.Join(links, " · ") + "\n\n")
	fmt.Fprintf(&b, "## Flags of every command\n\n%s\n## Connection\n\n%s\n", flagTable(root.PersistentFlags()), fenced(reflow(connectionText, helpWidth)))
	b.WriteString(`## Output

Tables are for people: aligned, cut to the terminal's width, coloured where a
terminal shows colours (` + "`--no-color` and `NO_COLOR`" + ` switch them off). Do not parse
them. With ` + "`-q`" + ` lists print their first column alone, one name a line.

With ` + "`-o json`" + ` an answer is one object, which begins with the version of this
encoding and its kind: ` + "`{\"version\": 1, \"kind\": \"hosts\", …}`" + `. Keys are in
snake_case; times are RFC 3339 in UTC; keys that end in ` + "`_ns`" + ` are nanoseconds, in
` + "`_bytes`" + ` bytes; what is not set is left out. New keys may be added; when one is
removed or changes its meaning, the version is raised. Commands that go on
(` + "`events --follow`, `rollout watch`" + `) print one object a line.

`)
	fmt.Fprintf(&b, "## Exit codes\n\n%s", fenced(reflow(exitCodesText, helpWidth)))
	for _, c := range all {
		if documented(c) {
			describe(&b, c)
		}
	}
	return b.String()
}

// documented leaves out topics, which are chapters, and what cobra brings.
func documented(c *cobra.Command) bool {
	return c.HasParent() && c.Name() != "help" && !c.IsAdditionalHelpTopicCommand() && !strings.HasPrefix(c.CommandPath(), "kernwave completion ")
}

func describe(b *strings.Builder, c *cobra.Command) {
	level := "##"
	if c.Parent().HasParent() {
		level = "###"
	}
	fmt.Fprintf(b, "\n%s %s\n\n%s%s.\n", level, c.CommandPath(), strings.ToUpper(c.Short[:1]), c.Short[1:])
	if c.Annotations[isGroup] == "" {
		fmt.Fprintf(b, "\n%s", fenced(c.UseLine()))
	}
	switch {
	case c.Name() == "completion":
		b.WriteString("\nFor example, in `~/.bashrc`: `source <(kernwave completion bash)`. Also zsh, fish and powershell.\n")
	case c.Name() == "config":
		b.WriteString("\nSee [Connection](#connection).\n")
	case c.Long != "":
		fmt.Fprintf(b, "\n%s\n", c.Long)
	}
	if c.LocalNonPersistentFlags().HasAvailableFlags() && c.Annotations[isGroup] == "" {
		if table := flagTable(c.LocalNonPersistentFlags()); table != "" {
			fmt.Fprintf(b, "\n%s", table)
		}
	}
	if c.Example != "" && strings.TrimSpace(c.Example) != usageLine(c) {
		fmt.Fprintf(b, "\nFor example:\n\n%s", fenced(strings.ReplaceAll(c.Example, "  kernwave", "kernwave")))
	}
}

func fenced(s string) string { return "```\n" + strings.Trim(s, "\n") + "\n```\n" }

func anchor(c *cobra.Command) string { return strings.ReplaceAll(c.CommandPath(), " ", "-") }

func flagTable(fs *pflag.FlagSet) string {
	var rows strings.Builder
	fs.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		kind, usage := pflag.UnquoteUsage(f)
		name := "`--" + f.Name
		if f.Shorthand != "" {
			name = "`-" + f.Shorthand + "`, " + name
		}
		if kind != "" {
			name += " " + kind
		}
		standard := ""
		if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "[]" && !strings.Contains(usage, "(default") && f.DefValue != "0s" && f.DefValue != "0" {
			standard = "`" + f.DefValue + "`"
		}
		fmt.Fprintf(&rows, "| %s` | %s | %s |\n", name, strings.ReplaceAll(usage, "|", "\\|"), standard)
	})
	if rows.Len() == 0 {
		return ""
	}
	return "| flag | meaning | default |\n|---|---|---|\n" + rows.String()
}
