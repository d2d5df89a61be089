package cli

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/kernwave/kernwave/cache"
)

// printCache prints a reply: the rows as a table, and what a reader must know besides as notes.
func (a *app) printCache(c *cache.Command, v cache.Value) error {
	if a.json() {
		b, err := v.MarshalJSON()
		if err != nil {
			return err
		}
		if v.Kind != cache.Map {
			b = []byte(`{"reply":` + string(b) + `}`)
		}
		return printJSON(a.Out, "cache", json.RawMessage(b))
	}
	rows := v.Get("rows")
	if rows.Kind != cache.Array {
		return a.printTree(v)
	}
	t := &table{}
	if c != nil {
		for _, f := range c.Reply {
			t.head = append(t.head, f.Name)
		}
	}
	if len(rows.Items) > 0 && (c == nil || rows.Items[0].Get(c.Reply[0].Name).IsNull()) {
		t.head = nil
		for i := 0; i+1 < len(rows.Items[0].Items); i += 2 {
			t.head = append(t.head, rows.Items[0].Items[i].Text())
		}
	}
	keep := t.head[:0:0]
	for _, name := range t.head { // columns that say nothing are left out: ten columns do not fit on a screen
		for _, row := range rows.Items {
			if cell(name, row.Get(name)) != "" {
				keep = append(keep, name)
				break
			}
		}
	}
	t.head = keep
	for _, row := range rows.Items {
		cells := make([]string, len(t.head))
		for i, name := range t.head {
			cells[i] = cell(name, row.Get(name))
		}
		t.add(cells...)
	}
	names := t.head
	t.head = make([]string, len(names))
	for i, name := range names {
		t.head[i] = strings.ToUpper(strings.ReplaceAll(headOf(name), "_", " "))
	}
	if len(t.rows) > 0 {
		t.shrink = []int{0}
		for i := range t.head {
			if i > 0 {
				t.shrink = append(t.shrink, i)
			}
		}
		if err := a.printList(t); err != nil {
			return err
		}
	}
	return a.cacheNotes(v, len(rows.Items))
}

// cacheNotes says what the table does not.
func (a *app) cacheNotes(v cache.Value, rows int) error {
	if rows == 0 {
		a.note("there is nothing to show", "")
	}
	for _, n := range v.Get("notes").Items {
		a.note(clean(n.Str), "")
	}
	for _, f := range v.Get("nodes").Get("failed").Items {
		a.note(clean(f.Get("node").Text()+" gave no answer: "+f.Get("error").Text()), "")
	}
	if cov := v.Get("coverage"); cov.Kind == cache.Double && cov.Float < 1 {
		a.note(fmt.Sprintf("this is not all: coverage is %.1f %%", 100*cov.Float), "")
	}
	if g := v.Get("guards"); g.Get("breaker_opened").Int > 0 || g.Get("cuts").Int > 0 {
		a.note(clean(fmt.Sprintf("guards slowed it down %d times and stopped it %d times for a while: %s", g.Get("cuts").Int, g.Get("breaker_opened").Int, g.Get("why").Text())), "")
	}
	return nil
}

// headOf is a column's title: the unit is in the cells.
func headOf(name string) string {
	for _, unit := range []string{"_ms", "_us", "_bytes"} {
		if s, ok := strings.CutSuffix(name, unit); ok && s != "" {
			return s
		}
	}
	return name
}

// cell is one value as a person reads it, by the unit in the name of its column.
func cell(name string, v cache.Value) string {
	switch v.Kind {
	case cache.Null:
		return ""
	case cache.Int:
		switch {
		case strings.HasPrefix(name, "ttl") && v.Int < 0:
			return "none"
		case strings.HasSuffix(name, "_ms"):
			return shortDuration(time.Duration(v.Int) * time.Millisecond)
		case strings.HasSuffix(name, "_us"):
			return microText(float64(v.Int))
		case name == "bytes" || strings.HasSuffix(name, "_bytes"):
			return sizeText(v.Int)
		}
	case cache.Double:
		if strings.HasSuffix(name, "_us") {
			return microText(v.Float)
		}
		return fmt.Sprintf("%.4g", v.Float)
	case cache.Array, cache.Set, cache.Push:
		parts := make([]string, len(v.Items))
		for i, x := range v.Items {
			parts[i] = cell("", x)
		}
		return strings.Join(parts, " ")
	case cache.Map:
		var parts []string
		for i := 0; i+1 < len(v.Items); i += 2 {
			parts = append(parts, v.Items[i].Text()+"="+cell(v.Items[i].Text(), v.Items[i+1]))
		}
		return strings.Join(parts, " ")
	case cache.Simple, cache.Bulk, cache.Bool, cache.Err, cache.Verbatim, cache.BigNumber:
	}
	return clean(v.Text())
}

// microText is microseconds.
func microText(us float64) string {
	return time.Duration(us * float64(time.Microsecond)).Round(time.Microsecond).String()
}

// printTree prints a reply without rows: one line a key.
func (a *app) printTree(v cache.Value) error {
	var lines []string
	switch v.Kind {
	case cache.Map:
		for i := 0; i+1 < len(v.Items); i += 2 {
			k := v.Items[i].Text()
			lines = append(lines, headOf(k)+": "+cell(k, v.Items[i+1]))
		}
	case cache.Array:
		for _, x := range v.Items {
			lines = append(lines, cell("", x))
		}
	default:
		lines = []string{cell("", v)}
	}
	_, err := fmt.Fprintln(a.Out, strings.Join(lines, "\n"))
	return err
}
