package cli

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/kernwave/kernwave/cache"
)

// TestCacheReference keeps the catalogue of the gateway's commands in step with the registry: go test ./internal/cli -run Reference -update
func TestCacheReference(t *testing.T) {
	const (
		file  = "../../docs/reference/cache.md"
		begin = "<!-- Written by go test ./internal/cli -run Reference -update, to the end of the file. DO NOT EDIT. -->\n"
	)
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	head, _, ok := strings.Cut(string(got), begin)
	if !ok {
		t.Fatalf("%s has lost the line after which the catalogue begins", file)
	}
	want := head + begin + catalogue(cacheRegistry())
	if *update {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if string(got) != want {
		t.Errorf("%s is not what the registry says; next: go test ./internal/cli -run Reference -update", file)
	}
}

// catalogue is every command in Markdown.
func catalogue(r *cache.Registry) string {
	var b strings.Builder
	cell := func(s string) string { return strings.ReplaceAll(s, "|", `\|`) }
	for _, c := range r.Commands() {
		fmt.Fprintf(&b, "\n### %s\n\n%s%s. Class: %s.", c.Name, strings.ToUpper(c.Summary[:1]), c.Summary[1:], c.Class)
		if c.Needs != "" {
			fmt.Fprintf(&b, " Servers: %s.", c.Needs)
		}
		fmt.Fprintf(&b, "\n\n```\n%s\n```\n", c.Usage())
		if c.Help != "" {
			fmt.Fprintf(&b, "\n%s\n", strings.ReplaceAll(c.Help, "\n", "\n\n"))
		}
		if len(c.Args) > 0 {
			b.WriteString("\n| argument | meaning | default |\n|---|---|---|\n")
			for _, a := range c.Args {
				word := a.Keyword
				if word == "" {
					word = a.Name
				}
				fmt.Fprintf(&b, "| `%s` | %s | %s |\n", word, cell(a.Help), a.Default)
			}
		}
		if len(c.Reply) > 0 {
			b.WriteString("\n| in a row | type | meaning |\n|---|---|---|\n")
			for _, f := range c.Reply {
				fmt.Fprintf(&b, "| `%s` | %s | %s |\n", f.Name, f.Type, cell(f.Help))
			}
		}
		for _, g := range c.Guards {
			fmt.Fprintf(&b, "\n- Guard: %s.", g)
		}
		if len(c.Guards) > 0 {
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "\n```\n%s\n```\n", strings.Join(c.Examples, "\n"))
	}
	return b.String()
}
