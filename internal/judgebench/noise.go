package judgebench

import (
	"hash/fnv"
	"math"
	"math/rand/v2"
	"sync"
)

// stream is the random numbers of one purpose: those of others do not move when one draws more.
func stream(seed uint64, parts ...uint64) *rand.PCG {
	h := fnv.New64a()
	var b [8]byte
	put := func(v uint64) {
		for i := range b {
			b[i] = byte(v >> (8 * i))
		}
		_, _ = h.Write(b[:])
	}
	put(seed)
	for _, p := range parts {
		put(p)
	}
	return rand.NewPCG(seed, h.Sum64())
}

// tableBits of a random number choose a value: a draw from any distribution is a look into a table of its quantiles.
const (
	tableBits = 12
	tableSize = 1 << tableBits
	perWord   = 64 / tableBits
)

// table is the quantiles of a distribution with mean 0 and variance 1.
type table [tableSize]float32

// shape is g and h of Tukey's g-and-h distribution: skewness and weight of the tails; 0 and 0 are the normal one.
//
// Source: D. C. Hoaglin, in Exploring Data Tables, Trends, and Shapes (1985), chapter 11.
type shape struct{ g, h float64 }

var (
	tablesMu sync.Mutex
	tables   = map[shape]*table{}
)

// quantiles is the table of s.
func quantiles(s shape) *table {
	tablesMu.Lock()
	defer tablesMu.Unlock()
	if t := tables[s]; t != nil {
		return t
	}
	var v [tableSize]float64
	var sum, sum2 float64
	for i := range v {
		z := math.Sqrt2 * math.Erfinv(2*(float64(i)+0.5)/tableSize-1)
		x := z
		if s.g != 0 {
			x = math.Expm1(s.g*z) / s.g
		}
		x *= math.Exp(s.h * z * z / 2)
		v[i] = x
		sum += x
		sum2 += x * x
	}
	mean := sum / tableSize
	sd := math.Sqrt(sum2/tableSize - mean*mean)
	t := new(table)
	for i, x := range v {
		t[i] = float32((x - mean) / sd)
	}
	tables[s] = t
	return t
}

// dice draws from tables, several per random word.
type dice struct {
	src  *rand.PCG
	word uint64
	left int
}

func (d *dice) draw(t *table) float64 {
	if d.left == 0 {
		d.word, d.left = d.src.Uint64(), perWord
	}
	d.left--
	v := t[d.word&(tableSize-1)]
	d.word >>= tableBits
	return float64(v)
}

var normal = quantiles(shape{})

// unit is uniform in (0,1).
func (d *dice) unit() float64 { return (float64(d.src.Uint64()>>11) + 0.5) / (1 << 53) }

// below is uniform in [0,n).
func (d *dice) below(n int) int { return int(d.unit() * float64(n)) }

// exp is exponential with mean m.
func (d *dice) exp(m float64) float64 { return -m * math.Log(d.unit()) }
