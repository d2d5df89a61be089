package judgebench

import "math"

// slowS is how often the slow movements of a host are drawn, in seconds.
const slowS = 300

// silentFrom is the part of the after at which a host that falls silent does so.
const silentFrom = 0.45

// series makes the samples of a cell.
func (m *Maker) series(c *Cell, p Profile, rollout, j, signal, rep int) {
	t := &m.t
	n, steps := t.Hosts(), t.Steps()
	d := &dice{src: stream(m.seed, uint64(rollout), uint64(j), forCharacter, uint64(signal))}
	base := p.Level * math.Exp(p.LevelType*d.draw(normal))
	noise := math.Exp(p.TypeNoise * d.draw(normal))
	hasJob, hasIdle, phase := d.unit() < 0.5, d.unit() < p.IdleRuns, d.unit()
	d = &dice{src: stream(m.seed, uint64(rollout), uint64(j), forNoise, uint64(signal), uint64(rep))}
	if m.spec.Uneasy {
		p.HostNoise *= uneasyBy
	}
	m.hosts(d, c, p, base, noise)

	tab := quantiles(shape{p.Skew, p.Heavy})
	// Autocorrelation is per minute, whatever the step.
	rho := math.Pow(p.FastRho, float64(t.StepS)/60)
	fresh := p.Fast * math.Sqrt(1-rho*rho)
	var keep, kick [3]float64
	for w, tau := range WanderTau {
		keep[w] = math.Exp(-slowS / tau)
		kick[w] = p.Wander[w] * math.Sqrt(1-keep[w]*keep[w])
	}
	slowEvery := max(1, slowS/t.StepS)
	sharedKeep := math.Exp(-float64(t.StepS) / 3600)
	shared := d.draw(normal)
	jobEvery, jobOff := 1800/t.StepS, int(phase*1800)/t.StepS
	firstJob := make([]int, n)
	for i := range firstJob {
		firstJob[i] = (jobOff + d.below(3)) % jobEvery
	}
	f, wander, add, level := m.f[:n], m.wander[:n], m.add[:n], m.level[:n]
	react, scale, swing := m.react[:n], m.scale[:n], m.swing[:n]
	for k := range steps {
		at := t.Start + int64(k*t.StepS)
		shared = sharedKeep*shared + math.Sqrt(1-sharedKeep*sharedKeep)*d.draw(normal)
		load := math.Exp(p.Day*day(at) + p.Shared*shared + p.Jitter*d.draw(normal))
		if c.Kind == Surge && at >= t.T0 && at < t.T0+105*60 {
			load *= c.Size
		}
		logLoad := math.Log(load)
		if k%slowEvery == 0 {
			m.slow(d, p, k, keep, kick)
		}
		row := c.X[k*n : (k+1)*n]
		for i := range row {
			v := rho*f[i] + fresh*d.draw(tab)
			f[i] = v
			x := level[i] * load * (1 + react[i]*logLoad) * (1 + scale[i]*(swing[i]*v+wander[i]) + add[i])
			if !(x > 0) {
				x = 0
			}
			row[i] = x
		}
		if hasJob && p.Job > 0 {
			for i := range row {
				if (k+jobEvery-firstJob[i])%jobEvery == 0 {
					row[i] *= 1 + p.Job*min(scale[i], 2)
				}
			}
		}
		if hasIdle {
			m.idleRuns(d, row, k, t.StepS)
		}
		m.happen(c, row, k, at, load)
		gone := m.gone[k*n : (k+1)*n]
		for i, g := range gone {
			if g {
				row[i] = math.NaN()
			}
		}
	}
}

// hosts draws what tells one host of a type from another.
func (m *Maker) hosts(d *dice, c *Cell, p Profile, base, noise float64) {
	n := m.t.Hosts()
	for _, s := range []*[]float64{&m.f, &m.wander, &m.add, &m.level, &m.react, &m.scale, &m.calm, &m.unrest, &m.swing, &m.restless} {
		*s = fill(*s, n, 0)
	}
	m.noisy = fill(m.noisy, 3*n, 0)
	m.jumpAt, m.idleTill, m.idle = fill(m.jumpAt, n, 0), fill(m.idleTill, n, 0), fill(m.idle, n, false)
	for i := range n {
		m.level[i] = base * math.Exp(p.LevelHost*d.draw(normal))
		m.react[i] = p.React * d.draw(normal)
		m.unrest[i] = d.draw(normal)
		m.calm[i] = noise
		m.scale[i] = noise * math.Exp(p.HostNoise*m.unrest[i]-p.HostNoise*p.HostNoise/2)
		m.f[i] = p.Fast * d.draw(normal)
		m.restless[i] = p.Restless * d.draw(normal)
		for w := range WanderTau {
			m.noisy[3*i+w] = p.Wander[w] * d.draw(normal)
		}
		m.jumpAt[i] = math.MaxInt
		if p.Jumps > 0 {
			m.jumpAt[i] = int(d.exp(86_400 / p.Jumps / float64(m.t.StepS)))
		}
		m.idle[i] = d.unit() < 1.0/3
		m.idleTill[i] = int(d.exp(2700 / float64(m.t.StepS)))
	}
	switch c.Kind {
	case OutlierControl:
		m.scale[n-1] *= c.Size
		m.calm[n-1] *= c.Size
	case OutlierTreated:
		m.scale[0] *= c.Size
		m.calm[0] *= c.Size
	}
}

// slow moves what a host does on its own, over minutes to half days.
func (m *Maker) slow(d *dice, p Profile, k int, keep, kick [3]float64) {
	for i := range m.wander {
		if m.spec.Uneasy {
			calms := math.Exp(-slowS / uneasyTau)
			m.unrest[i] = calms*m.unrest[i] + math.Sqrt(1-calms*calms)*d.draw(normal)
			m.scale[i] = m.calm[i] * math.Exp(p.HostNoise*m.unrest[i]-p.HostNoise*p.HostNoise/2)
		}
		w := m.noisy[3*i : 3*i+3]
		w[0] = keep[0]*w[0] + kick[0]*d.draw(normal)
		w[1] = keep[1]*w[1] + kick[1]*d.draw(normal)
		w[2] = keep[2]*w[2] + kick[2]*d.draw(normal)
		m.wander[i] = w[0] + w[1] + w[2]
		m.restless[i] = keep[1]*m.restless[i] + p.Restless*math.Sqrt(1-keep[1]*keep[1])*d.draw(normal)
		m.swing[i] = math.Exp(m.restless[i])
		for m.jumpAt[i] <= k {
			size := d.exp(p.JumpSize)
			if d.unit() < 0.5 {
				size = -size
			}
			m.add[i] += m.scale[i] * size
			m.jumpAt[i] += 1 + int(d.exp(86_400/p.Jumps/float64(m.t.StepS)))
		}
	}
}

// idleRuns holds hosts at zero now and then.
func (m *Maker) idleRuns(d *dice, row []float64, k, stepS int) {
	for i := range row {
		if k >= m.idleTill[i] {
			m.idle[i] = !m.idle[i]
			mean := 5400.0
			if m.idle[i] {
				mean = 2700
			}
			m.idleTill[i] = k + 1 + int(d.exp(mean/float64(stepS)))
		}
		if m.idle[i] {
			row[i] = 0
		}
	}
}

// happen lets the effect of a cell act on the samples of one time.
func (m *Maker) happen(c *Cell, row []float64, k int, at int64, load float64) {
	t := &m.t
	if c.Kind == None || c.Kind == Surge || at < t.T0 {
		return
	}
	for i := range t.Treated {
		since := at - t.Changed[i]
		if since < 0 {
			continue
		}
		switch c.Kind {
		case Level:
			row[i] *= 1 + c.TrueRel
		case Tail:
			row[i] *= 1 + c.TrueRel
		case Leak:
			row[i] *= 1 + c.Sign()*c.Size*float64(since)/3600
		case Variance:
			mid := m.level[i] * load * (1 + m.react[i]*math.Log(load)) * (1 + m.scale[i]*m.wander[i] + m.add[i])
			row[i] = max(0, mid+(1+c.Size)*(row[i]-mid))
		case Warmup:
			if since < downS+600 {
				row[i] *= 1 + c.Size*math.Exp(-float64(since-downS)/180)
			}
		case Missing:
			if i == 0 && float64(at-t.T0) > silentFrom*float64(t.End-t.T0) {
				row[i] = math.NaN()
			}
		case Lost:
			row[i] = math.NaN()
		case Idle:
			row[i] *= 0.3 + 0.7*c.Size // what does not come from work stays
		}
	}
}
