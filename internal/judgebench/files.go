package judgebench

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strconv"

	"github.com/kernwave/kernwave/internal/judgecase"
)

// WriteCases makes rollouts from to from+n-1 of spec and writes their cases and labels as lines, in the formats of
// kernwave judge.
func WriteCases(spec Spec, seed uint64, from, n int, cases, labels io.Writer) error {
	m := NewMaker(spec, seed)
	c, l := json.NewEncoder(cases), json.NewEncoder(labels)
	for r := from; r < from+n; r++ {
		for j := range m.Spec().Types {
			t := m.Type(r, j)
			if err := c.Encode(t.Case()); err != nil {
				return fmt.Errorf("write case %s: %w", t.ID, err)
			}
			for _, cell := range t.Cells {
				if err := l.Encode(cell.Label); err != nil {
					return fmt.Errorf("write label %s: %w", t.ID, err)
				}
			}
		}
	}
	return nil
}

// Case is a type as a line of a file of cases, with values of 5 significant digits. Its hosts stand in an order that
// says nothing about their arm.
func (t *Type) Case() judgecase.Case {
	c := judgecase.Case{
		Schema: judgecase.Schema, ID: t.ID, Rollout: t.Rollout, HostType: t.ID[len(t.Rollout)+1:], StepS: float64(t.StepS),
		Start: t.Start, T0: t.T0, End: t.End, Looks: t.Looks,
	}
	for _, cell := range t.Cells {
		c.Signals = append(c.Signals, judgecase.Signal{Name: cell.Signal, Unit: profile(cell.Signal).Unit, BadDirection: cell.Bad, MarginRel: cell.MarginRel})
	}
	if t.Work != nil {
		c.Signals = append(c.Signals, judgecase.Signal{Name: "work", Unit: "1/s", BadDirection: "decrease", MarginRel: 0.05, Role: "work"})
	}
	n := t.Hosts()
	for k := range n {
		// 7 is prime to every number of hosts that is no multiple of it; then this walks through all of them.
		i := k
		if n%7 != 0 {
			i = k * 7 % n
		}
		h := judgecase.Host{ID: fmt.Sprintf("h%03d", k), Arm: "control", Series: map[string]judgecase.Samples{}}
		if i < t.Treated {
			at := t.Changed[i]
			h.Arm, h.ChangedAt = "treated", &at
		} else if at := t.Rebooted[i]; at > 0 {
			h.RebootedAt = &at
		}
		for s, sig := range c.Signals {
			x := t.Work
			if s < len(t.Cells) {
				x = t.Cells[s].X
			}
			series := make(judgecase.Samples, t.Steps())
			for step := range series {
				series[step] = math.NaN()
				if v := x[step*n+i]; !math.IsNaN(v) {
					series[step], _ = strconv.ParseFloat(strconv.FormatFloat(v, 'g', 5, 64), 64)
				}
			}
			h.Series[sig.Name] = series
		}
		c.Hosts = append(c.Hosts, h)
	}
	return c
}
