package builtin

import "math"

// interval is what a figure can be, both ends included.
type interval struct{ lo, hi float64 }

// tally is what a sample, or a whole walk, saw of one prefix.
type tally struct {
	n           int64   // keys
	sum, sq, cb float64 // of their bytes, and of the squares and cubes
	largest     float64
	// of the keys beyond largeSeen, the sum of bytes and of their squares
	large, largeSq float64
}

func (t *tally) add(bytes float64) {
	t.n++
	t.sum += bytes
	t.sq += bytes * bytes
	t.cb += bytes * bytes * bytes
	t.largest = max(t.largest, bytes)
	if bytes >= largeSeen {
		t.large += bytes
		t.largeSq += bytes * bytes
	}
}

func (t *tally) merge(o tally) {
	t.n += o.n
	t.sum += o.sum
	t.sq += o.sq
	t.cb += o.cb
	t.largest = max(t.largest, o.largest)
	t.large += o.large
	t.largeSq += o.largeSq
}

// population is what a server knows for sure about all its keys.
type population struct {
	keys       int64   // how many
	seen       int64   // of which a random sample of this size was looked at
	bytes      float64 // their memory is not more than this; +Inf: not known
	doubt      float64 // and that bound may be too high by this much
	large      float64 // all large strings take no more than this, if largeKnown
	largeKnown bool
	repeat     bool // the sample is looked at again and again until it is good enough, which costs confidence
}

// The quantiles of the normal distribution for intervals of 95 %, and for those that were waited for: looking several
// times at a growing sample and stopping when it looks good would otherwise state too narrow ones.
const (
	zOnce   = 2.05 // a little more than 1.96: the variance is estimated, too
	zWaited = 2.60
)

// Above these a sample does not tell the variance of its population: few keys, or one that outweighs the rest.
const (
	fewKeys  = 40
	dominant = 0.04 // the largest square's share in the sum of squares; in samples with a variance it goes to zero
)

func (p population) z() float64 {
	if p.repeat {
		return zWaited
	}
	return zOnce
}

// estimate is one prefix scaled up from a sample.
type estimate struct {
	keys, bytes float64
	keysCI      interval
	bytesCI     interval
	// loose says that the interval comes from what the server says of its whole memory, not from the sample's variance.
	loose bool
}

// estimates scales up tallies of one server's sample. The intervals hold the truth in at least 95 of 100 samples:
// of counts, Wilson's interval with the correction for a finite population; of bytes, the normal one corrected for
// skewness (Johnson 1978, J. Am. Stat. Assoc. 73), where the sample can tell its variance. Where it cannot, because one
// key outweighs the others or there are few, or where the server holds more memory than the sample explains, the upper
// end is what the server says it holds less what all others hold at least.
func estimates(p population, all []tally) []estimate {
	out := make([]estimate, len(all))
	n, size := float64(p.seen), float64(p.keys)
	if p.seen >= p.keys || p.seen == 0 {
		for i, t := range all {
			out[i] = estimate{keys: float64(t.n), bytes: t.sum, keysCI: interval{float64(t.n), float64(t.n)}, bytesCI: interval{t.sum, t.sum}}
		}
		return out
	}
	scale, left := size/n, 1-n/size
	z := p.z()
	sumLow := 0.0
	for i, t := range all {
		out[i] = one(t, n, size, scale, left, z)
		sumLow += out[i].bytesCI.lo
	}
	if math.IsInf(p.bytes, 1) {
		return out
	}
	// What the server holds at most, beyond what all prefixes hold at least: all of it could be any one's.
	spare := math.Max(0, p.bytes-sumLow)
	// What the tight ones hold at most and the loose ones about, against that: the difference is in large keys that the
	// sample missed, and nobody knows under which prefix.
	explained := 0.0
	for _, e := range out {
		if e.loose {
			explained += e.bytes
		} else {
			explained += e.bytesCI.hi
		}
	}
	missing := p.bytes - p.doubt - explained
	unseen := p.unseenLarge(all, scale, left)
	for i, t := range all {
		e := &out[i]
		most := math.Max(e.bytesCI.lo+spare, t.sum)
		switch {
		case e.loose:
			e.bytesCI.hi = math.Max(most, e.bytes)
		case unseen > 0.01*e.bytesCI.hi && missing <= 0: // too little for the server's figures to show it
			e.bytesCI.hi = math.Max(e.bytesCI.hi, math.Min(most, e.bytesCI.hi+unseen))
			e.loose = true
		case missing > 0: // somewhere are large keys that the sample missed
			e.bytesCI.hi = math.Max(e.bytesCI.hi, math.Min(most, e.bytesCI.hi+missing+p.doubt))
			e.loose = true
		}
	}
	return out
}

// unseenLarge is how much there may be in large strings beyond what the sample makes expect.
func (p population) unseenLarge(all []tally, scale, left float64) float64 {
	if !p.largeKnown {
		return 0
	}
	sum, sq := 0.0, 0.0
	for _, t := range all {
		sum += t.large
		sq += t.largeSq
	}
	expected := math.Max(0, sum*(scale-1)-2*scale*math.Sqrt(left*sq))
	return math.Max(0, p.large-sum-expected)
}

// one is the estimate of one prefix from its sample alone.
func one(t tally, n, size, scale, left, z float64) estimate {
	e := estimate{keys: float64(t.n) * scale, bytes: t.sum * scale}
	// Counts: Wilson, with the sample as large as it counts in a finite population.
	q, eff := float64(t.n)/n, n/left
	mid := (q + z*z/(2*eff)) / (1 + z*z/eff)
	half := z / (1 + z*z/eff) * math.Sqrt(q*(1-q)/eff+z*z/(4*eff*eff))
	e.keysCI = interval{math.Max(float64(t.n), size*(mid-half)), math.Min(size-(n-float64(t.n)), size*(mid+half))}
	// Bytes: the mean over all keys of what they add to this prefix.
	mean := t.sum / n
	variance := math.Max(0, t.sq/n-mean*mean) * n / math.Max(1, n-1)
	se := math.Sqrt(variance / n * left)
	skew := 0.0
	if variance > 0 {
		m3 := t.cb/n - 3*mean*t.sq/n + 2*mean*mean*mean
		skew = m3 / (6 * variance * n) * left // Johnson's shift of the mean, in bytes
	}
	shift := skew * (1 + 2*z*z)
	e.bytesCI = interval{
		math.Max(t.sum, size*(mean-z*se+math.Min(0, shift))),
		size * (mean + z*se + math.Max(0, shift)),
	}
	e.bytesCI.hi = math.Max(e.bytesCI.hi, t.sum)
	e.loose = t.n < fewKeys || t.largest*t.largest > dominant*t.sq
	return e
}

// The sum of MEMORY USAGE over all keys is not what MEMORY STATS calls the data set: they count a key's entry in the
// table differently. Measured with strings of 20 to 3,000 bytes, in bytes a key: the sum is the data set plus 19 to 38 in
// Redis 7.0, 8.0 and 8.6, and -21 to 11 in Valkey 8.1 and 9.1. The bound is the upper end, the doubt the distance.
const (
	redisExtra, redisDoubt   = 40.0, 22.0
	valkeyExtra, valkeyDoubt = 12.0, 34.0
)
