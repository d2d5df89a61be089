package api

import (
	"cmp"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/kernwave/kernwave/internal/operator"
)

var updateDocs = flag.Bool("update", false, "write the documented parts of this package anew")

// TestDocumentedRoles keeps the table of roles in docs/reference/api.md in step with procedures:
// go test ./internal/api -run Documented -update
func TestDocumentedRoles(t *testing.T) {
	const file = "../../docs/reference/api.md"
	const begin, end = "-run Documented -->\n", "<!-- roles: end -->"
	page, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(page), begin)
	have, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the table of roles", file)
	}
	want := rolesTable()
	if *updateDocs {
		if err := os.WriteFile(file, []byte(before+begin+want+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if have != want {
		t.Errorf("the roles in %s are not those of the API; next: go test ./internal/api -run Documented -update\ngot:\n%s\nwant:\n%s", file, have, want)
	}
}

func rolesTable() string {
	services := map[string]map[operator.Role][]string{}
	for path, p := range procedures {
		if p.who != whoOperator {
			continue
		}
		service, method, _ := strings.Cut(strings.TrimPrefix(path, "/kernwave.v1."), "/")
		if services[service] == nil {
			services[service] = map[operator.Role][]string{}
		}
		services[service][p.role] = append(services[service][p.role], method)
	}
	var b strings.Builder
	b.WriteString("| service | viewer | operator | admin |\n|---|---|---|---|\n")
	for _, s := range slices.Sorted(maps.Keys(services)) {
		fmt.Fprintf(&b, "| %s |", s)
		for _, r := range []operator.Role{operator.RoleViewer, operator.RoleOperator, operator.RoleAdmin} {
			slices.Sort(services[s][r])
			fmt.Fprintf(&b, " %s |", cmp.Or(strings.Join(services[s][r], ", "), "–"))
		}
		b.WriteString("\n")
	}
	return b.String()
}
