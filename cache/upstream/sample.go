package upstream

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"
)

// Slot is the slot of a key in a cluster: CRC16 of the key, or of what stands between the first { and the next } in it.
func Slot(key string) int {
	for i := 0; i < len(key); i++ {
		if key[i] == '{' {
			for j := i + 1; j < len(key); j++ {
				if key[j] == '}' {
					if j > i+1 {
						key = key[i+1 : j]
					}
					break
				}
			}
			break
		}
	}
	var crc uint16
	for i := 0; i < len(key); i++ { // CRC-16/XMODEM, as the cluster specification says
		crc ^= uint16(key[i]) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
	}
	return int(crc % 16384)
}

// BySlot says whether SCAN walks slot by slot here, as servers do whose tables are split by slots: then the beginning of
// a scan is no random sample. It is found out by looking at the keys of a first page.
func (n *Node) BySlot(ctx context.Context) (bool, error) {
	if n.Mode != "cluster" {
		return false, nil
	}
	v, err := n.Do(ctx, "SCAN", "0", "COUNT", "200")
	if err != nil {
		return false, err
	}
	if len(v.Items) != 2 {
		return false, &Failure{Node: n.Addr, Err: errors.New("SCAN: an answer of another shape")}
	}
	last, rose := -1, 0
	for _, k := range v.Items[1].Items {
		s := Slot(k.Str)
		if s < last {
			return false, nil
		}
		if s > last {
			rose++
		}
		last = s
	}
	return rose > 0, nil // one slot alone: its order is that of its table, whichever it is
}

// Sample looks at a random part of the keys of a node whose tables are split by slots: from each slot that holds keys
// the same part, rounded at random, from the beginning of the slot's own table, whose order is that of a hash. part is in
// (0,1]. It is Scan otherwise, and Count is not used.
func (s Scan) Sample(ctx context.Context, n *Node, part float64, r *rand.Rand) (Scanned, error) {
	var got Scanned
	dbs, err := n.Databases(ctx)
	if err != nil {
		return got, err
	}
	for _, size := range dbs {
		got.Size += size
	}
	c, err := n.Dial(ctx)
	if err != nil {
		return got, err
	}
	defer c.Close()
	var slots []int
	for lo := 0; lo < 16384; lo += 1024 {
		for slot := lo; slot < lo+1024; slot++ {
			c.Queue("CLUSTER", "COUNTKEYSINSLOT", strconv.Itoa(slot))
		}
		vs, err := c.Read(ctx, 1024)
		if err != nil {
			return got, &Failure{Node: n.Addr, Err: err}
		}
		for i, v := range vs {
			want := float64(v.Int) * part
			take := int(want)
			if r.Float64() < want-float64(take) {
				take++
			}
			if take > 0 {
				slots = append(slots, lo+i, take)
			}
		}
	}
	r.Shuffle(len(slots)/2, func(i, j int) {
		slots[2*i], slots[2*j] = slots[2*j], slots[2*i]
		slots[2*i+1], slots[2*j+1] = slots[2*j+1], slots[2*i+1]
	})
	const batch = 50
	for len(slots) > 0 {
		some := slots[:min(2*batch, len(slots))]
		slots = slots[len(some):]
		keys, err := s.ofSlots(ctx, n, c, some)
		if err != nil {
			return got, err
		}
		for page := range slices.Chunk(keys, batch) {
			more, err := s.ask(ctx, n, c, page, &got)
			if err != nil || !more {
				return got, err
			}
		}
	}
	got.Whole = part >= 1
	return got, nil
}

// ofSlots takes the first keys of slots: pairs of a slot and how many.
func (s Scan) ofSlots(ctx context.Context, n *Node, c *Conn, pairs []int) ([]string, error) {
	type state struct {
		slot, want int
		cursor     string
		keys       []string
	}
	var open []*state
	for i := 0; i < len(pairs); i += 2 {
		// A cursor's low 14 bits are the slot whose table it walks: the slot's number alone is its beginning.
		open = append(open, &state{slot: pairs[i], want: pairs[i+1], cursor: strconv.Itoa(pairs[i])})
	}
	var out []string
	for len(open) > 0 {
		for _, o := range open {
			c.Queue("SCAN", o.cursor, "COUNT", strconv.Itoa(min(100, o.want-len(o.keys))))
		}
		vs, err := c.Read(ctx, len(open))
		if err != nil {
			return nil, &Failure{Node: n.Addr, Err: err}
		}
		var still []*state
		for i, o := range open {
			if len(vs[i].Items) != 2 {
				return nil, &Failure{Node: n.Addr, Err: errors.New("SCAN: " + vs[i].Str)}
			}
			o.cursor = vs[i].Items[0].Str
			beyond := false
			for _, k := range vs[i].Items[1].Items {
				if Slot(k.Str) != o.slot { // it went on with the next slot
					beyond = true
					continue
				}
				if len(o.keys) < o.want && !slices.Contains(o.keys[max(0, len(o.keys)-200):], k.Str) {
					o.keys = append(o.keys, k.Str)
				}
			}
			at, err := strconv.ParseUint(o.cursor, 10, 64)
			if err == nil && int(at&16383) == o.slot && o.cursor != "0" && !beyond && len(o.keys) < o.want {
				still = append(still, o)
				continue
			}
			out = append(out, o.keys...)
		}
		open = still
	}
	return out, nil
}

// ask puts the questions about some keys and hands over the answers.
func (s Scan) ask(ctx context.Context, n *Node, c *Conn, keys []string, got *Scanned) (more bool, err error) {
	began := time.Now()
	s.queue(c, keys)
	if more, err := s.page(ctx, n, c, 0, keys, got); err != nil || !more {
		return false, err
	}
	if s.Pacer != nil {
		if err := s.Pacer.Page(ctx, time.Since(began)); err != nil {
			return false, &Failure{Node: n.Addr, Err: err}
		}
	}
	return true, nil
}
