package bulk

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/kernwave/kernwave/cache"
)

// The operations.
const (
	Unlink = "unlink"
	Expire = "expire"
	Undo   = "undo"
)

// Plan is what one call wants changed, as a dry run found it. An approval is bound to its hash.
type Plan struct {
	Op      string        `json:"op"`
	Match   string        `json:"match,omitempty"`   // the pattern; nothing outside it is ever changed
	Idle    time.Duration `json:"idle,omitempty"`    // unlink: only keys that nobody has used for so long
	Capture int64         `json:"capture,omitempty"` // unlink: bytes of the capture at most; 0: none
	TTL     time.Duration `json:"ttl,omitempty"`     // expire
	Jitter  float64       `json:"jitter,omitempty"`  // expire: the TTL is spread by this part of it, both ways
	NoTTL   bool          `json:"no_ttl,omitempty"`  // expire: only keys that never expire
	Of      string        `json:"of,omitempty"`      // undo: what is undone
	Rate    int64         `json:"rate"`              // keys a second on each node at most
	Slack   float64       `json:"slack"`             // how many times longer than before a ping may take
	On      string        `json:"on,omitempty"`
	By      string        `json:"by"`
	At      time.Time     `json:"at"`
	Shards  []Shard       `json:"shards"`
}

// Shard is one part of the keyspace, named by the primary that held it when the plan was made.
type Shard struct {
	Cluster string `json:"cluster"`
	Addr    string `json:"addr"`
	Keys    int64  `json:"keys"`  // that match
	Bytes   int64  `json:"bytes"` // memory that they take
	Walked  int64  `json:"walked"`
}

// Keys and bytes of all shards.
func (p *Plan) sum() (keys, bytes, walked int64) {
	for _, s := range p.Shards {
		keys += s.Keys
		bytes += s.Bytes
		walked += s.Walked
	}
	return keys, bytes, walked
}

// Most is how many keys may be changed before the plan no longer is what was approved: keys come and go while it runs, and
// a hundredth more than were counted, or a thousand of a small count, are no other plan.
func (p *Plan) Most() int64 {
	keys, _, _ := p.sum()
	return keys + max(keys/100, 1000)
}

// Hash names the plan.
func (p *Plan) Hash() string {
	h := sha256.New()
	fmt.Fprintf(h, "%q %q %d %d %d %g %t %q %d %g %q %q %d\n", p.Op, p.Match, p.Idle, p.Capture, p.TTL, p.Jitter, p.NoTTL, p.Of, p.Rate, p.Slack, p.On, p.By, p.At.UnixNano())
	for _, s := range p.Shards {
		fmt.Fprintf(h, "%q %q %d %d\n", s.Cluster, s.Addr, s.Keys, s.Bytes)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// String is the plan in one sentence, without the pattern: that may hold customers' data.
func (p *Plan) String() string {
	keys, bytes, _ := p.sum()
	switch p.Op {
	case Unlink:
		what := "nothing is captured, so it cannot be undone"
		if p.Capture > 0 {
			what = fmt.Sprintf("captured up to %d bytes", p.Capture)
		}
		return fmt.Sprintf("unlink %d keys that match %s (%d bytes) on %d shards; %s", keys, cache.HashArg(p.Match), bytes, len(p.Shards), what)
	case Expire:
		return fmt.Sprintf("let %d keys that match %s expire in %s, spread by %g %%, on %d shards", keys, cache.HashArg(p.Match), p.TTL, 100*p.Jitter, len(p.Shards))
	}
	return fmt.Sprintf("undo %s: put back up to %d keys", p.Of, keys)
}

// value describes the plan in a reply.
func (p *Plan) value(id string) cache.Value {
	keys, bytes, walked := p.sum()
	v := cache.Dict("id", cache.String(id), "hash", cache.String(p.Hash()), "keys", cache.Number(keys), "bytes", cache.Number(bytes), "walked", cache.Number(walked), "most", cache.Number(p.Most()))
	if p.Op == Unlink {
		v.Add("undo", cache.Truth(p.Capture > 0))
	}
	return v
}
