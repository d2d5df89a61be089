package judgebench

import (
	"bytes"
	"math"
	"testing"
	"time"
)

// Treated hosts that changed are left out of placebo replays, unless their cases are said to be unchanged.
func TestPlacebos(t *testing.T) {
	spec := Spec{
		Types: 2, Treated: []int{3}, Controls: []int{20}, Before: 2 * time.Hour, After: time.Hour, Looks: Every(10*time.Minute, time.Hour),
		Plan: Plan{Effects: []Effect{{Level, 0.9}}, Share: 1},
	}
	var cases, labels bytes.Buffer
	if err := WriteCases(spec, 1, 0, 2, &cases, &labels); err != nil {
		t.Fatal(err)
	}
	play := func() PlaceboCount {
		t.Helper()
		p, err := Placebos(bytes.NewReader(cases.Bytes()), PlaceboOptions{Seed: 1, Draws: 3})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	p := play()
	if want := int64(2 * 2 * 8 * 3); p.Cells[3][0].N != want || len(p.Cells) != 1 {
		t.Errorf("cells with 3 treated hosts: %d, want %d and no others: %v", p.Cells[3][0].N, want, p.Cells)
	}
	if p.Rollouts != (Count{0, 6}) {
		t.Errorf("replays with a false regression, the changed hosts left out: %v, want 0 of 6", p.Rollouts)
	}
	var a, b bytes.Buffer
	p.Print(&a)
	again := play()
	again.Print(&b)
	if a.String() != b.String() {
		t.Errorf("the same draws give\n%s\nand\n%s", a.String(), b.String())
	}

	c := NewMaker(spec, 1).Type(0, 0).Case()
	for _, unchanged := range []bool{false, true} {
		drawn := placebo(c, &dice{src: stream(1)}, unchanged)
		treated, rebooted := 0, 0
		for _, h := range drawn.Hosts {
			if h.Arm == "treated" {
				treated++
			}
			if h.RebootedAt != nil {
				rebooted++
			}
		}
		hosts := 20
		if unchanged {
			hosts = 23
		}
		if len(drawn.Hosts) != hosts || treated != 3 || !unchanged && rebooted > 0 {
			t.Errorf("unchanged %v: %d hosts, %d treated, %d rebooted controls; want %d, 3, and none but of unchanged cases", unchanged, len(drawn.Hosts), treated, rebooted, hosts)
		}
	}
}

// The noise of an uneasy host is not what it was; that of others is.
func TestUneasy(t *testing.T) {
	moves := func(uneasy bool) float64 {
		typ := NewMaker(Spec{Types: 1, Signals: []string{"app_latency_p50"}, Treated: []int{2}, Controls: []int{50}, After: 8 * time.Hour, Uneasy: uneasy}, 1).Type(0, 0)
		n := typ.Hosts()
		quarter := typ.Steps() / 4
		sum := 0.0
		for i := range n {
			var jumps [2]float64
			for part, from := range [2]int{1, 3 * quarter} {
				for k := from; k < from+quarter; k++ {
					if d := math.Abs(typ.Cells[0].X[k*n+i] - typ.Cells[0].X[(k-1)*n+i]); d == d {
						jumps[part] += d
					}
				}
			}
			sum += math.Abs(math.Log(jumps[1] / jumps[0]))
		}
		return sum / float64(n)
	}
	easy, uneasy := moves(false), moves(true)
	if t.Logf("by how much hosts' noise changes, mean of the logarithm: %.2f, uneasy %.2f", easy, uneasy); uneasy < 3*easy {
		t.Errorf("hosts' noise changes by %.2f, that of uneasy ones by %.2f only", easy, uneasy)
	}
}
