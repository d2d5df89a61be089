package cli

import (
	"slices"
	"strings"
	"testing"

	"charm.land/lipgloss/v2"
	"pgregory.net/rapid"
)

func TestTableAlignsWideAndColouredCells(t *testing.T) {
	p := palette{on: true}
	tab := &table{head: []string{"HOST", "STATE"}}
	tab.add("züri-1", p.good("active"))
	tab.add("b", p.bad("revoked"))
	var b strings.Builder
	if err := tab.print(&b, palette{}, utf8Glyphs, 0); err != nil {
		t.Fatal(err)
	}
	want := "HOST    STATE\nzüri-1  active\nb       revoked\n"
	if got := stripStyle(b.String()); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestTableWrapsProseUnderItself(t *testing.T) {
	tab := &table{head: []string{"HOST", "WHY"}, prose: true}
	tab.add("web-1", "came back on the old kernel 41 s after it was told to reboot")
	var b strings.Builder
	if err := tab.print(&b, palette{}, utf8Glyphs, 40); err != nil {
		t.Fatal(err)
	}
	want := "HOST   WHY\nweb-1  came back on the old kernel 41 s\n       after it was told to reboot\n"
	if b.String() != want {
		t.Errorf("got\n%swant\n%s", b.String(), want)
	}
}

// Where columns may be cut, a table is as wide as the terminal at most, down to what the columns need at least.
func TestTableFitsTheTerminal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cell := rapid.StringMatching(`[a-z0-9.+-]{1,40}`)
		tab := &table{head: []string{"A", "B", "C"}, shrink: []int{0, 1, 2}}
		for range rapid.IntRange(0, 5).Draw(t, "rows") {
			tab.add(cell.Draw(t, "a"), cell.Draw(t, "b"), cell.Draw(t, "c"))
		}
		width := rapid.IntRange(3*minShrunk+4, 130).Draw(t, "width")
		var b strings.Builder
		if err := tab.print(&b, palette{}, utf8Glyphs, width); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(b.String()) {
			if w := lipgloss.Width(strings.TrimSuffix(line, "\n")); w > width {
				t.Fatalf("%d columns in %d: %s", w, width, line)
			}
		}
	})
}

func TestNamesSortAsPeopleCount(t *testing.T) {
	names := []string{"web-10", "web-2", "db-1", "web-02", "web", "web-2a", "db-01"}
	slices.SortFunc(names, compareNames[string])
	if got := strings.Join(names, " "); got != "db-01 db-1 web web-02 web-2 web-2a web-10" {
		t.Errorf("got %s", got)
	}
}

func TestCompareNamesIsAnOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.StringMatching(`[ab0-2-]{0,6}`)
		a, b, c := name.Draw(t, "a"), name.Draw(t, "b"), name.Draw(t, "c")
		if compareNames(a, b) != -compareNames(b, a) {
			t.Fatalf("%q and %q: %d one way, %d the other", a, b, compareNames(a, b), compareNames(b, a))
		}
		if (compareNames(a, b) == 0) != (a == b) {
			t.Fatalf("%q and %q are not the same", a, b)
		}
		if compareNames(a, b) < 0 && compareNames(b, c) < 0 && compareNames(a, c) >= 0 {
			t.Fatalf("%q < %q < %q, but not the first before the last", a, b, c)
		}
	})
}
