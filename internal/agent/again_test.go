package agent_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/kernwave/kernwave/fleet"
)

// A control plane that doubts a report is given its proof at once, and what came with the doubt is not obeyed.
func TestReportsAreNumberedAndAnswersEchoed(t *testing.T) {
	inWorld(t, func(w *world) { w.doubts, w.want = 3, update("op-1") }, func(w *world) {
		w.until("heard once", 2*time.Minute, func(fleet.Report) bool { return w.heard() >= 1 })
		began := time.Now()
		w.until("heard four times", 2*time.Minute, func(fleet.Report) bool { return w.heard() >= 4 })
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("the proof took %s", took)
		}
		w.set(func(w *world) {
			for i, r := range w.reports[:4] {
				if i > 0 && (r.Seq <= w.reports[i-1].Seq || r.Answered != answerName(i)) {
					t.Errorf("report %d: seq %d after %d, echo %q, want %q", i, r.Seq, w.reports[i-1].Seq, r.Answered, answerName(i))
				}
				if r.Operation != nil {
					t.Error("an answer that doubted the report was obeyed")
				}
				if r.Facts == nil {
					t.Error("facts that came with a doubted report count as said")
				}
			}
		})
		w.untilEnd(10 * time.Minute)
		last := w.last()
		w.host.KillAgent()
		after := w.until("heard after a restart of the agent", time.Minute, func(r fleet.Report) bool { return r.Answered == "" })
		if after.Seq <= last.Seq || after.Now.BootID != last.Now.BootID {
			t.Errorf("seq %d after %d in one boot", after.Seq, last.Seq)
		}
	})
}

// A host that leaves service under a grant goes on while a control plane that has just started asks who it is, and
// comes back when the grant has run out meanwhile.
func TestDoubtTakesNothingBack(t *testing.T) {
	for _, c := range []struct {
		name   string
		doubts int
		want   fleet.Phase
	}{{"for one check-in", 1, fleet.PhaseCommitted}, {"for ever", 1 << 20, fleet.PhaseCancelled}} {
		t.Run(c.name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.want = update("op-1")
				w.confirm = func() (fleet.Confirmation, error) { return fleet.Confirmation{}, errors.New("restarting") }
			}, func(w *world) {
				w.untilPhase(fleet.PhaseDrained, 10*time.Minute)
				w.set(func(w *world) {
					w.doubts = c.doubts
					if c.doubts == 1 {
						w.confirm = nil
					}
				})
				began, n := time.Now(), 0
				w.set(func(w *world) { n = len(w.reports) })
				if got := w.untilEnd(20 * time.Minute).Operation.Phase; got != c.want {
					t.Errorf("ended %s, want %s", got, c.want)
				}
				w.set(func(w *world) {
					if n = len(w.reports) - n; n > 30+int(time.Since(began)/time.Second) {
						t.Errorf("%d reports in %s", n, time.Since(began))
					}
				})
			})
		})
	}
}

// Its name would be proof to the wrong one.
func TestAnswerOfAnOlderControlPlaneIsNotEchoed(t *testing.T) {
	inWorld(t, func(w *world) { w.from.Term = 5 }, func(w *world) {
		w.until("heard", time.Minute, func(r fleet.Report) bool { return r.Answered != "" })
		var refused string
		w.set(func(w *world) { w.from.Term, refused = 4, answerName(len(w.reports)+1) })
		w.until("heard three times more", 10*time.Minute, func(r fleet.Report) bool {
			if r.Answered == refused {
				t.Errorf("echoes %s, which an older control plane said", refused)
			}
			return w.heard() >= 8
		})
	})
}

// Behind one name there may be two, and each connection finds one of them: an unlucky few in a row do not cost minutes.
// A host that finds only the older one asks it less and less.
func TestNewerControlPlaneIsFoundSoon(t *testing.T) {
	var log bytes.Buffer
	inWorld(t, func(w *world) { w.from.Term, w.log = 5, &log }, func(w *world) {
		left := func(n int) func(fleet.Report) bool {
			return func(fleet.Report) (ok bool) {
				w.set(func(w *world) { ok = w.left >= n })
				return ok
			}
		}
		w.until("heard", time.Minute, func(r fleet.Report) bool { return r.Answered != "" })
		w.set(func(w *world) { w.from.Term = 4 })
		w.until("refused", 10*time.Minute, left(1))
		began := time.Now()
		w.until("refused five times more", 10*time.Minute, left(6))
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("five more tries took %s", took)
		}
		time.Sleep(10 * time.Minute)
		before := w.heard()
		time.Sleep(10 * time.Minute)
		if n := w.heard() - before; n > 12 {
			t.Errorf("asked an older control plane %d times in 10 minutes", n)
		}
	})
	if n := strings.Count(log.String(), `level=ERROR msg="an answer is refused"`); n != 1 {
		t.Errorf("said %d times", n)
	}
}
