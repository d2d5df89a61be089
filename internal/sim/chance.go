package sim

import (
	"encoding/binary"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"time"
)

// chance is one stream of draws. Each part of the world has its own, named after it, so that one draw more here
// changes nothing there.
type chance struct{ *rand.Rand }

func newChance(seed uint64, name string) chance {
	h := fnv.New64a()
	h.Write([]byte(name))
	return chance{rand.New(rand.NewPCG(seed, h.Sum64()))}
}

// yes is true with probability p.
func (c chance) yes(p float64) bool { return p > 0 && c.Float64() < p }

// about is d, up to a third more or less.
func (c chance) about(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (2 + 2*c.Float64()) / 3)
}

// upTo draws from [0, d).
func (c chance) upTo(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return time.Duration(c.Int64N(int64(d)))
}

// within draws a waiting time with the given mean, as for things that happen at random; at least a millisecond.
func (c chance) within(mean time.Duration) time.Duration {
	d := time.Duration(-math.Log(1-c.Float64()) * float64(mean))
	return min(max(d, time.Millisecond), 1000*24*time.Hour)
}

// Read fills p with drawn bytes: the store's source of ids.
func (c chance) Read(p []byte) (int, error) {
	var b [8]byte
	for i := 0; i < len(p); i += 8 {
		binary.LittleEndian.PutUint64(b[:], c.Uint64())
		copy(p[i:], b[:])
	}
	return len(p), nil
}
