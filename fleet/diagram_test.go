package fleet

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

var updateDocs = flag.Bool("update", false, "write the documented parts of this package anew")

// TestDocumentedPhases keeps diagram and table in docs/internals/operation.md in step with the transition table:
// go test ./fleet -run Documented -update
func TestDocumentedPhases(t *testing.T) {
	const file = "../docs/internals/operation.md"
	const begin, end = "-run Documented -->\n", "<!-- phases: end -->"
	page, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(page), begin)
	have, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the phases", file)
	}
	want := diagram() + "\n" + phaseTable()
	if *updateDocs {
		if err := os.WriteFile(file, []byte(before+begin+want+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if have != want {
		t.Errorf("the phases in %s are not those of Phase.Next; next: go test ./fleet -run Documented -update\ngot:\n%s\nwant:\n%s", file, have, want)
	}
}

// diagram is the state machine as mermaid draws it.
func diagram() string {
	id := func(p Phase) string { return strings.ReplaceAll(string(p), "-", "_") }
	var b strings.Builder
	b.WriteString("```mermaid\nstateDiagram-v2\n")
	for _, p := range Phases() {
		if id(p) != string(p) {
			fmt.Fprintf(&b, "  state \"%s\" as %s\n", p, id(p))
		}
	}
	fmt.Fprintf(&b, "  [*] --> %s\n", PhasePlanned)
	for _, p := range Phases() {
		for _, n := range p.Next() {
			fmt.Fprintf(&b, "  %s --> %s\n", id(p), id(n))
		}
		if p.Ended() {
			fmt.Fprintf(&b, "  %s --> [*]\n", id(p))
		}
	}
	b.WriteString("```\n")
	return b.String()
}

// phaseTable is the same for those who read text, with what the code says of each phase.
func phaseTable() string {
	serves := []Phase{PhasePlanned, PhasePreparing, PhasePrepared} // and every end
	var b strings.Builder
	b.WriteString("| phase | followed by | in service | runs the new kernel | can be called off |\n|---|---|---|---|---|\n")
	yes := func(v bool) string {
		if v {
			return "yes"
		}
		return ""
	}
	for _, p := range Phases() {
		var next []string
		for _, n := range p.Next() {
			next = append(next, string(n))
		}
		if p.Ended() {
			next = []string{"(end)"}
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", p, strings.Join(next, ", "),
			yes(p.Ended() || slices.Contains(serves, p)), yes(p.OnNewKernel()), yes(p.BeforeReboot()))
	}
	return b.String()
}
