package judgebench

import "math"

// hostLevel are the rivals that compare hosts: they share the statistics and differ in the test.
type hostLevel struct {
	matrix
	name string
	test func(minute int, e Estimate, sign float64, minor bool) float64
	// every is between two looks of this judge, in minutes.
	every int
	stats *hostStats // shared: whoever is first fills it
	looks *lookCache
}

// lookCache keeps what the statistics of the cells of a type show, for all rivals that use them.
type lookCache struct {
	key  string
	ests [][][3]Estimate // by signal, look
}

// newHostLevel makes the rivals mix, spend and t.
func newHostLevel() []Judge {
	stats, looks := new(hostStats), new(lookCache)
	return []Judge{
		&hostLevel{name: "mix", test: testMix, every: 1, stats: stats, looks: looks},
		&hostLevel{name: "spend", test: testSpend, every: 1, stats: stats, looks: looks},
		&hostLevel{name: fixedName, test: testFixed, every: 20, stats: stats, looks: looks},
	}
}

func (h *hostLevel) Name() string { return h.name }

// estimates are those of all cells and looks of t.
func (h *hostLevel) estimates(t *Type) [][][3]Estimate {
	if h.looks.key == t.ID {
		return h.looks.ests
	}
	h.looks.key, h.looks.ests = t.ID, nil
	for _, c := range t.Cells {
		h.stats.load(t, c.X)
		row := make([][3]Estimate, len(t.Looks))
		for l, at := range t.Looks {
			row[l][0], row[l][1], row[l][2] = h.stats.look(int(at-t.Start+int64(t.StepS)-1)/t.StepS, true)
		}
		h.looks.ests = append(h.looks.ests, row)
	}
	return h.looks.ests
}

func (h *hostLevel) See(t *Type, effect []float64) {
	out := h.add(t, effect)
	family := float64(len(t.Cells) * 12)
	for i, row := range h.estimates(t) {
		c := t.Cells[i]
		sign := c.Sign()
		best := [3]float64{1, 1, 1}
		last := silent
		for l, e := range row {
			minute := int(t.Looks[l]-t.T0) / 60
			if minute%h.every != 0 {
				last.Pass = false
				out[i][l] = last
				continue
			}
			if effect != nil && e[0].SE > 0 {
				// A change of the level moves the estimate and nothing else.
				e[0].D += math.Log1p(sign * effect[i])
			}
			v := silent
			v.P, v.Now = 1, 1
			share := [3]float64{0.8, 0.1, 0.1}
			for k := range best {
				s := sign
				if k == 1 {
					s = 1 // more variance is worse
				}
				if e[k].SE > 0 {
					p := h.test(minute, e[k], s, k > 0)
					best[k] = min(best[k], p)
					if k == 0 {
						v.Now = p / share[0]
					}
				}
				v.P = min(v.P, best[k]/share[k])
			}
			if h.every == 1 {
				v.Now = v.P // it is right at all looks together, and was published so
			}
			if e[0].SE > 0 {
				r := mixRadius(0.05, e[0].SE, e[0].DF)
				if !math.IsInf(r, 1) {
					v.Low, v.High = math.Expm1(e[0].D-r*e[0].SE), math.Expm1(e[0].D+r*e[0].SE)
				}
				v.Pass = sign > 0 && v.High < c.MarginRel || sign < 0 && -v.Low < c.MarginRel
				if l == len(row)-1 {
					v.MDE = math.Expm1(e[0].SE * (mixRadius(0.05/family, e[0].SE, e[0].DF) + tQuantile(0.2, e[0].DF)))
				}
			}
			out[i][l], last = v, v
		}
	}
}

func (h *hostLevel) Decide(apart bool) [][]Seen { return h.decide(apart) }

// mixNu is the prior scale of a change, in log units.
const mixNu = 0.05

// testMix is the anytime-valid mixture t.
//
// Source: M. Lindon, D. W. Ham, M. Tingley, I. Bojinov, Anytime-valid inference in linear models, arXiv:2210.08589.
func testMix(_ int, e Estimate, sign float64, _ bool) float64 {
	if sign*e.D <= 0 {
		return 1
	}
	g, t := 1+(mixNu/e.SE)*(mixNu/e.SE), e.D/e.SE
	logE := -0.5*math.Log1p(g) + (e.DF+1)/2*(math.Log1p(t*t/e.DF)-math.Log1p(t*t/(e.DF*(1+g))))
	return min(1, math.Exp(-logE))
}

// mixRadius is the half width of the interval at level 1-a, in standard errors; infinite: there is none.
func mixRadius(a, se, df float64) float64 {
	g := 1 + (mixNu/se)*(mixNu/se)
	c := math.Pow(math.Sqrt(1+g)/a, 2/(df+1))
	if c >= 1+g {
		return math.Inf(1)
	}
	return math.Sqrt(df * (c - 1) / (1 - c/(1+g)))
}

// spendAt are the looks, in minutes, that spend its error.
var spendAt = []int{20, 30, 45, 60, 90, 120, 180, 240, 360, 480, 720, 960, 1440}

// testSpend is a fixed-time t at a few looks, each with its share of the error.
func testSpend(minute int, e Estimate, sign float64, _ bool) float64 {
	sum, own := 0.0, 0.0
	for k, at := range spendAt {
		w := 1 / float64(k+2)
		sum += w
		if at == minute {
			own = w
		}
	}
	if own == 0 {
		return 1
	}
	return min(1, tTail(sign*e.D/e.SE, e.DF)*sum/own)
}

// testFixed is a fixed-time t: right at one look, wrong at many.
func testFixed(_ int, e Estimate, sign float64, minor bool) float64 {
	if minor {
		return 1
	}
	return tTail(sign*e.D/e.SE, e.DF) * 0.8 // takes back the share: this rival has one channel
}
