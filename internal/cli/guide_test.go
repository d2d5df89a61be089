package cli

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

var (
	fencedBlock = regexp.MustCompile("(?ms)^```[a-z]*\n(.*?)^```$")
	shellWord   = regexp.MustCompile(`'[^']*'|"[^"]*"|&&|[^\s"']+`)
)

// TestGuideCommands runs every "kernwave …" line of the guide and the README as far as its arguments: the command
// must exist, know the flags, take as many arguments, and need no flag more.
func TestGuideCommands(t *testing.T) {
	pages, err := filepath.Glob("../../docs/guide/*.md")
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	for _, page := range append(pages, "../../README.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range guideLines(string(text)) {
			checked++
			if why := wrongLine(line); why != "" {
				t.Errorf("%s: %s: %s", page, line, why)
			}
		}
	}
	if checked < 40 {
		t.Errorf("only %d commands were found in the guide: the search is broken", checked)
	}
}

func TestWrongGuideLineIsFound(t *testing.T) {
	for line, want := range map[string]string{
		`kernwave hosts --selector workload=web`:      "",
		`kernwave host maintenance web-1 --why "a b"`: "",
		`kernwave host maintenance web-1`:             "why",
		`kernwave host maintenance --why x`:           "HOST",
		`kernwave rollout frobnicate`:                 "command",
		`kernwave hosts --sel x`:                      "unknown flag",
		`kernwave rollout start k --soak soon`:        "soon",
	} {
		if got := wrongLine(line); got != want && (want == "" || !strings.Contains(got, want)) {
			t.Errorf("%s: %q, want %q", line, got, want)
		}
	}
}

// guideLines finds the commands in the fenced blocks of a page. Output of commands never begins like one.
func guideLines(text string) (lines []string) {
	for _, block := range fencedBlock.FindAllStringSubmatch(text, -1) {
		for line := range strings.Lines(strings.ReplaceAll(block[1], "\\\n", " ")) {
			line, _, _ = strings.Cut(strings.TrimSpace(line), " # ")
			line, _, _ = strings.Cut(line, " > ") // where its output goes
			for part := range strings.SplitSeq(line, "&&") {
				if part = strings.TrimSpace(part); strings.HasPrefix(part, "kernwave ") {
					lines = append(lines, part)
				}
			}
		}
	}
	return lines
}

// wrongLine says why a command line would be refused before it is sent anywhere; empty: it would not.
func wrongLine(line string) string {
	var args []string
	for _, w := range shellWord.FindAllString(line, -1)[1:] {
		args = append(args, strings.Trim(w, `"'`))
	}
	root := tree()[0]
	cmd, rest, err := root.Find(args)
	if err != nil {
		return err.Error()
	}
	if cmd == root || cmd.Annotations[isGroup] != "" {
		return "it is no command"
	}
	if err := cmd.ParseFlags(rest); err != nil {
		return err.Error()
	}
	if err := cmd.ValidateArgs(cmd.Flags().Args()); err != nil {
		return err.Error()
	}
	missing := ""
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if strings.Contains(f.Usage, "(required)") && !f.Changed {
			missing = "--" + f.Name + " is needed"
		}
	})
	return missing
}
