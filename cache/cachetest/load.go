package cachetest

import (
	"math"
	"math/rand/v2"
	"net"
	"sort"
	"strconv"
	"sync"
	"time"

	"github.com/kernwave/kernwave/cache/resp"
)

// Zipf draws from n ranks, the i-th with a probability proportional to 1/i^s.
type Zipf struct{ sums []float64 }

// NewZipf makes one.
func NewZipf(n int, s float64) *Zipf {
	z := &Zipf{sums: make([]float64, n)}
	sum := 0.0
	for i := range n {
		sum += math.Pow(float64(i+1), -s)
		z.sums[i] = sum
	}
	return z
}

// Draw returns a rank from 0.
func (z *Zipf) Draw(r *rand.Rand) int {
	return sort.SearchFloat64s(z.sums, r.Float64()*z.sums[len(z.sums)-1])
}

// Load is traffic against one server: reads and writes of Zipf-distributed keys at a rate.
type Load struct {
	stop chan struct{}
	done sync.WaitGroup
	mu   sync.Mutex
	sent map[string]int64
}

// Traffic begins to send rate operations a second, one in ten of them a write, to s until Stop. name makes a key of a
// rank. When the machine is too slow for the rate, it sends what it can.
func (s *Server) Traffic(rate int, z *Zipf, name func(rank int) string) *Load {
	l := &Load{stop: make(chan struct{}), sent: map[string]int64{}}
	c, err := net.Dial("tcp", s.Addr())
	if err != nil {
		s.tb.Fatalf("%v", err)
	}
	l.done.Go(func() {
		defer c.Close()
		w, r := resp.NewWriter(c, 2), resp.NewReader(c, resp.Limits{})
		rnd := rand.New(rand.NewPCG(uint64(s.Port), 1))
		began, n := time.Now(), 0
		for {
			select {
			case <-l.stop:
				return
			default:
			}
			due := int(time.Since(began).Seconds()*float64(rate)) - n
			if due < 1 {
				time.Sleep(time.Millisecond)
				continue
			}
			due = min(due, 64)
			l.mu.Lock()
			for range due {
				key := name(z.Draw(rnd))
				l.sent[key]++
				if n++; n%10 == 0 {
					w.Command("SET", key, strconv.Itoa(n))
				} else {
					w.Command("GET", key)
				}
			}
			l.mu.Unlock()
			if w.Flush() != nil {
				return
			}
			for range due {
				if _, err := r.Next(); err != nil {
					return
				}
			}
		}
	})
	return l
}

// Sent is how many operations each key has had so far.
func (l *Load) Sent() map[string]int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make(map[string]int64, len(l.sent))
	for k, n := range l.sent {
		out[k] = n
	}
	return out
}

// Stop ends the traffic and waits for its end.
func (l *Load) Stop() {
	close(l.stop)
	l.done.Wait()
}
