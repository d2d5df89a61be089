package judgecase

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/kernwave/kernwave/judge"
)

// Run reads cases and writes verdicts.
type Run struct {
	// Bad is told what is wrong with a line, which is left out. Nil: the first such line ends the run.
	Bad func(*LineError)
	// Progress is called after each case. Nil: nobody asks.
	Progress func(Summary)
	// Stop ends the run early when it returns an error. Nil: nothing does.
	Stop func() error
}

// Summary is what a run came to.
type Summary struct {
	Cases    int `json:"cases"`
	Rollouts int `json:"rollouts"`
	Verdicts int `json:"verdicts"`
	BadLines int `json:"bad_lines"`
	// Outcomes of signals at their last looks.
	Pass         int `json:"pass"`
	Regression   int `json:"regression"`
	Inconclusive int `json:"inconclusive"`
}

// Judge reads cases from r and writes verdicts to w, in the order of the cases, their looks and their signals. It
// remembers one rollout at a time. The first bad line ends it.
func Judge(r io.Reader, w io.Writer) error {
	_, err := Run{}.Judge(r, w)
	return err
}

// Judge is like the function of that name.
func (run Run) Judge(r io.Reader, w io.Writer) (Summary, error) {
	in, err := NewReader(r)
	if err != nil {
		return Summary{}, err
	}
	j := &judging{out: bufio.NewWriterSize(w, 1<<16), cases: map[string]int{}, rollouts: map[string]int{}}
	for {
		if run.Stop != nil {
			if err := run.Stop(); err != nil {
				return j.sum, err
			}
		}
		c, line, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = j.take(c, line)
		}
		if bad, ok := errors.AsType[*LineError](err); ok {
			j.sum.BadLines++
			if run.Bad == nil {
				return j.sum, err
			}
			run.Bad(bad)
			continue
		}
		if err != nil {
			return j.sum, err
		}
		if run.Progress != nil {
			run.Progress(j.sum)
		}
	}
	if err := j.flush(); err != nil {
		return j.sum, err
	}
	return j.sum, j.out.Flush()
}

// judging is what is remembered between lines.
type judging struct {
	out      *bufio.Writer
	sum      Summary
	cases    map[string]int // the line of each id
	rollouts map[string]int // the last line of each rollout
	name     string
	rollout  []looked
}

// looked is one case that was looked at: what it showed at each look.
type looked struct {
	group judge.Group
	at    []int64
	looks []judge.Look
}

func (j *judging) take(c Case, line int) error {
	bad := func(err error) error {
		if c.ID != "" {
			err = fmt.Errorf("case %s: %w", c.ID, err)
		}
		return &LineError{line, err}
	}
	if last, ok := j.rollouts[c.Rollout]; ok && (c.Rollout != j.name || len(j.rollout) == 0) {
		return bad(fmt.Errorf("rollout: %q ended on line %d; its lines must follow one another, for it is judged as a whole", c.Rollout, last))
	}
	l, err := follow(c)
	if err != nil {
		return bad(err)
	}
	if first, ok := j.cases[c.ID]; ok {
		return bad(fmt.Errorf("id: line %d has the same", first))
	}
	if c.Rollout != j.name {
		if err := j.flush(); err != nil {
			return err
		}
		j.name = c.Rollout
	}
	j.cases[c.ID], j.rollouts[c.Rollout] = line, line
	j.rollout = append(j.rollout, l)
	j.sum.Cases++
	return nil
}

// follow plays one case to its end.
func follow(c Case) (looked, error) {
	g, err := c.Group()
	if err != nil {
		return looked{}, err
	}
	cmp, err := judge.New(g)
	if err != nil {
		return looked{}, err
	}
	l := looked{group: g, at: c.Looks}
	err = c.Play(cmp, func(at int64) bool {
		l.looks = append(l.looks, cmp.Look(time.Unix(at, 0).UTC()))
		return true
	})
	return l, err
}

// flush decides about the rollout that was read.
func (j *judging) flush() error {
	if len(j.rollout) == 0 {
		return nil
	}
	j.sum.Rollouts++
	for _, verdicts := range decide(j.rollout) {
		last := map[string]judge.Outcome{}
		for _, v := range verdicts {
			b, err := json.Marshal(Line(v))
			if err != nil {
				return err
			}
			if _, err := j.out.Write(append(b, '\n')); err != nil {
				return err
			}
			last[v.Signal] = v.Outcome
		}
		j.sum.Verdicts += len(verdicts)
		for _, o := range last {
			switch o {
			case judge.Pass:
				j.sum.Pass++
			case judge.Regression:
				j.sum.Regression++
			default:
				j.sum.Inconclusive++
			}
		}
	}
	j.rollout = j.rollout[:0]
	return nil
}

// decide puts the looks of a rollout's cases in the order of time, and returns the verdicts of each case.
func decide(rollout []looked) [][]judge.Verdict {
	var groups []judge.Group
	var times []int64
	for _, l := range rollout {
		groups = append(groups, l.group)
		times = append(times, l.at...)
	}
	slices.Sort(times)
	times = slices.Compact(times)
	f := judge.NewFamily(groups)
	byGroup := make([][]judge.Verdict, len(groups))
	index := map[string]int{}
	for i, g := range groups {
		index[g.ID] = i
	}
	for _, at := range times {
		looks := map[int]judge.Look{}
		for g, l := range rollout {
			if i, ok := slices.BinarySearch(l.at, at); ok {
				looks[g] = l.looks[i]
			}
		}
		for _, v := range f.Decide(time.Unix(at, 0).UTC(), looks) {
			g := index[v.Group]
			byGroup[g] = append(byGroup[g], v)
		}
	}
	return byGroup
}
