package cli

import (
	"io"
	"strings"

	"charm.land/lipgloss/v2"
	"github.com/charmbracelet/x/ansi"
)

// table is aligned text in columns. Cells may be coloured; the first column is what -q prints.
type table struct {
	head []string
	rows [][]string
	// shrink are the columns that may be cut in the middle when the terminal is too narrow, the first one first.
	shrink []int
	// prose says that the last column holds sentences, which are wrapped under themselves instead of cut.
	prose bool
}

// minShrunk is the least that a cut column keeps: enough to tell most names apart.
const minShrunk = 12

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

// print writes the table, cut to width columns where width is not 0.
func (t *table) print(w io.Writer, p palette, g glyphs, width int) error {
	widths := t.fit(width)
	head := make([]string, len(t.head))
	for i, h := range t.head {
		head[i] = p.faint(h)
	}
	var b strings.Builder
	for _, row := range append([][]string{head}, t.rows...) {
		var line strings.Builder
		column := 0 // where the cell begins
		for i, cell := range row {
			if i == len(row)-1 && t.prose {
				cell = strings.Join(wrap(cell, width-column), "\n"+strings.Repeat(" ", column))
			} else {
				cell = cutMiddle(cell, widths[i], g)
			}
			line.WriteString(cell)
			if i < len(row)-1 {
				line.WriteString(strings.Repeat(" ", widths[i]-lipgloss.Width(cell)+2))
				column += widths[i] + 2
			}
		}
		b.WriteString(strings.TrimRight(line.String(), " "))
		b.WriteByte('\n')
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// fit gives each column's width.
func (t *table) fit(width int) []int {
	widths := make([]int, len(t.head))
	total := 2 * (len(t.head) - 1)
	for i := range t.head {
		widths[i] = lipgloss.Width(t.head[i])
		for _, row := range t.rows {
			widths[i] = max(widths[i], lipgloss.Width(row[i]))
		}
		total += widths[i]
	}
	if width <= 0 {
		return widths
	}
	if last := len(widths) - 1; t.prose {
		total -= widths[last]
		total += min(widths[last], leastWrap)
	}
	for _, i := range t.shrink {
		if total <= width {
			break
		}
		least := min(widths[i], max(minShrunk, lipgloss.Width(t.head[i])))
		by := min(total-width, widths[i]-least)
		widths[i] -= by
		total -= by
	}
	return widths
}

// cutMiddle keeps both ends: kernels and host types differ at both. A coloured cell is cut without its colour.
func cutMiddle(s string, width int, g glyphs) string {
	if lipgloss.Width(s) <= width {
		return s
	}
	r := []rune(stripStyle(s))
	keep := width - lipgloss.Width(g.cut)
	if keep <= 0 {
		return string(r[:min(width, len(r))])
	}
	front := (keep + 1) / 2
	return string(r[:front]) + g.cut + string(r[len(r)-(keep-front):])
}

// cutEnd cuts a line to width columns and keeps its colours. 0 cuts nothing.
func cutEnd(s string, width int, g glyphs) string {
	if width <= 0 {
		return s
	}
	return ansi.Truncate(s, width, g.cut)
}

// printList prints a list that was asked for: for programs, its first column alone with -q, or as a table.
func (a *app) printList(t *table) error {
	if a.quiet {
		for _, row := range t.rows {
			if _, err := io.WriteString(a.Out, stripStyle(row[0])+"\n"); err != nil {
				return err
			}
		}
		return nil
	}
	return t.print(a.Out, a.paletteFor(a.Out), a.glyphs(), a.width())
}
