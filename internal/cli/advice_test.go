package cli

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/kernwave/kernwave/internal/near"
)

// Errors, incidents and notes all over the program say which command comes next. Whoever types it at three in the
// morning must not learn that it was renamed: every "kernwave …" in a string of this module is held against the
// commands that there are.
func TestAdviceNamesCommandsThatExist(t *testing.T) {
	root := tree()[0]
	checked := 0
	for _, dir := range []string{"../../internal", "../../rollout", "../../grant", "../../fleet", "../../cmd"} {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			set := token.NewFileSet()
			file, err := parser.ParseFile(set, path, nil, parser.SkipObjectResolution)
			if err != nil {
				return nil //nolint:nilerr // half-written: the compiler says so better
			}
			ast.Inspect(file, func(n ast.Node) bool {
				lit, ok := n.(*ast.BasicLit)
				if !ok || lit.Kind != token.STRING {
					return true
				}
				text, err := strconv.Unquote(lit.Value)
				if err != nil {
					return true
				}
				for _, words := range commandsIn(text) {
					checked++
					if why := wrongAdvice(root, words); why != "" {
						t.Errorf("%s: %q: %s", set.Position(lit.Pos()), strings.Join(words, " "), why)
					}
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if checked < 50 {
		t.Errorf("only %d commands were found in the strings of the program: the search is broken", checked)
	}
}

func TestWrongAdviceIsFound(t *testing.T) {
	root := tree()[0]
	for text, want := range map[string]string{
		"kernwave hosts": "",
		"look: kernwave rollout skip r-1 web-1 --why …":         "",
		`"kernwave status" says how it is`:                      "",
		"kernwave kernel add --id x":                            "no flag --id",
		"kernwave rollout frobnicate":                           "no command",
		"kernwave finds the control plane":                      "",
		"kernwave-agent enrol, or kernwave hsots":               "no command",
		"kernwave stop lift":                                    "",
		"kernwave stop works meanwhile":                         "",
		"kernwave --config DIR hosts":                           "",
		"kernwave rollout retry r-1 h && kernwave rollout ends": "no command",
	} {
		got := ""
		for _, words := range commandsIn(text) {
			if why := wrongAdvice(root, words); why != "" {
				got = why
			}
		}
		if got != want && (want == "" || !strings.Contains(got, want)) {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

var adviceWord = regexp.MustCompile(`^(--?[a-z][a-z-]*|[a-z][a-z-]*)$`)

// commandsIn finds what looks like a command line of ours: the words behind "kernwave", as far as they can be
// commands or flags, or are arguments of one.
func commandsIn(text string) (found [][]string) {
	for line := range strings.Lines(text) {
		found = append(found, commandsInLine(line)...)
	}
	return found
}

func commandsInLine(text string) [][]string {
	var found [][]string
	words := strings.Fields(text)
	for i, w := range words {
		if strings.TrimLeft(w, `"'(`) != "kernwave" {
			continue
		}
		var line []string
		for _, next := range words[i+1:] {
			end := strings.IndexAny(next, `"'.,;:)|&`+"`")
			if end == 0 {
				break
			}
			word := next
			if end > 0 {
				word = next[:end]
			}
			line = append(line, word)
			if end > 0 {
				break
			}
		}
		if len(line) > 0 {
			found = append(found, line)
		}
	}
	return found
}

// wrongAdvice says what is wrong with the words behind "kernwave". Prose behind a command is not looked at, nor is a
// sentence about the program: only lower-case words in the place of a command count.
func wrongAdvice(root *cobra.Command, words []string) string {
	cmd, placed := root, false // placed: the command is known, arguments follow
	for i := 0; i < len(words); i++ {
		w := words[i]
		if !adviceWord.MatchString(w) {
			placed = true // an argument
			continue
		}
		if flag, ok := strings.CutPrefix(w, "--"); ok {
			if cmd.Flags().Lookup(flag) == nil && cmd.InheritedFlags().Lookup(flag) == nil && cmd.PersistentFlags().Lookup(flag) == nil {
				return fmt.Sprintf("%s has no flag --%s", cmd.CommandPath(), flag)
			}
			if !placed && cmd == root {
				i++ // its value
			}
			continue
		}
		if placed || strings.HasPrefix(w, "-") {
			continue
		}
		subs := cmd.Commands()
		at := slices.IndexFunc(subs, func(c *cobra.Command) bool { return c.Name() == w })
		switch {
		case at >= 0:
			cmd = subs[at]
		case cmd == root && !slices.ContainsFunc(subs, func(c *cobra.Command) bool { return near.Distance(w, c.Name()) == 1 }):
			return "" // a sentence about the program: "kernwave finds the control plane"
		case cmd.Annotations[isGroup] != "":
			return fmt.Sprintf("%s has no command %s", cmd.CommandPath(), w)
		default:
			placed = true
		}
	}
	return ""
}
