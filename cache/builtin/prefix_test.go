package builtin_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/kernwave/kernwave/cache"

	"github.com/kernwave/kernwave/cache/cachetest"
)

// TestPrefix: exact figures against what the servers say of each key, and the sums.
func TestPrefix(t *testing.T) {
	onAll(t, func(t *testing.T, tp topology) {
		keys := map[string]int{"": 3, "user:": 40, "user:x:": 20, "cart:": 30}
		bytes := map[string]int64{}
		for prefix, n := range keys {
			for i := range n {
				key := fmt.Sprintf("%s%d", prefix, i)
				args := []string{"SET", key, strings.Repeat("v", 50+i)}
				if prefix == "cart:" {
					args = append(args, "PX", "900000")
				}
				tp.at(key).Must(args...)
				bytes[prefix] += tp.at(key).Must("MEMORY", "USAGE", key).Int
			}
		}
		tp.settle(t)
		r := newRig(t, tp.cfg)
		v := r.ok("CACHE.PREFIX DEPTH 2")
		got := map[string]cache.Value{}
		var sumKeys, sumBytes int64
		for _, row := range v.Get("rows").Items {
			got[row.Get("prefix").Str] = row
			sumKeys += row.Get("keys").Int
			sumBytes += row.Get("bytes").Int
		}
		for prefix, n := range keys {
			row := got[prefix]
			if row.Get("keys").Int != int64(n) || row.Get("bytes").Int != bytes[prefix] {
				t.Errorf("%q: %d keys, %d bytes; want %d, %d", prefix, row.Get("keys").Int, row.Get("bytes").Int, n, bytes[prefix])
			}
		}
		if total := v.Get("total"); total.Get("keys").Int != sumKeys || total.Get("bytes").Int != sumBytes || sumKeys != 93 {
			t.Errorf("the rows sum to %d keys and %d bytes, the total is %v", sumKeys, sumBytes, total)
		}
		if cart := got["cart:"]; cart.Get("no_ttl_pct").Float != 0 || cart.Get("ttl_p50_ms").Int < 600_000 || cart.Get("ttl_p50_ms").Int > 1_300_000 {
			t.Errorf("cart: %v", cart)
		}
		v = r.ok("CACHE.PREFIX TOP 1")
		if rest := v.Get("rest"); v.Get("rows").Items[0].Get("keys").Int+rest.Get("keys").Int != 93 || rest.Get("prefixes").Int != 2 {
			t.Errorf("rest: %v", rest)
		}
		r.refused("CACHE.PREFIX SAMPLE 5 EPS 1", "ERR")
		r.refused("CACHE.PREFIX SAMPLE 0", "ERR")
		r.refused("CACHE.PREFIX DEPTH 9", "ERR")
	})
}

// TestPrefixSampled: a sample whose largest slot has other keys than the rest, as hashtags make it. What is stated
// contains what is; a sample that began at one end of the keyspace would be far off.
func TestPrefixSampled(t *testing.T) {
	onAll(t, func(t *testing.T, tp topology) {
		if tp.name == "pair" || tp.name == "sentinel" {
			return // the same walk as on one server
		}
		truth := map[string]int64{}
		rnd := rand.New(rand.NewPCG(1, 2))
		byServer := map[any][][]string{}
		for i := range 20_000 {
			key := fmt.Sprintf("user:%d", i)
			size := 20 + rnd.IntN(100)
			if i%4 == 0 {
				key, size = fmt.Sprintf("feed:{hot}:%d", i), 300+rnd.IntN(500)
			}
			s := tp.at("x{hot}")
			if i%4 != 0 {
				s = tp.primary[0]
				if tp.name == "cluster" {
					s = tp.primary[ownerOf(key, len(tp.primary))]
				}
			}
			byServer[s] = append(byServer[s], []string{"SET", key, strings.Repeat("v", size)})
			truth[prefixName(key)]++
		}
		for _, s := range tp.primary {
			cmds := byServer[s]
			s.Fill(func(send func(...string)) {
				for _, c := range cmds {
					send(c...)
				}
			})
		}
		tp.settle(t)
		r := newRig(t, tp.cfg)
		exact := r.ok("CACHE.PREFIX DUTY 1")
		bytes := map[string]int64{}
		for _, row := range exact.Get("rows").Items {
			bytes[row.Get("prefix").Str] = row.Get("bytes").Int
			if row.Get("keys").Int != truth[row.Get("prefix").Str] {
				t.Errorf("exact: %v, want %d", row, truth[row.Get("prefix").Str])
			}
		}
		for _, how := range []string{"SAMPLE 10", "EPS 5"} {
			v := r.ok("CACHE.PREFIX DUTY 1 " + how)
			if !v.Get("sampled").IsNull() && v.Get("keys_seen").Int > 16_000 {
				t.Logf("%s looked at %d of 20000 keys", how, v.Get("keys_seen").Int)
			}
			for _, row := range v.Get("rows").Items {
				name := row.Get("prefix").Str
				check := func(column string, want int64) {
					ci := row.Get(column).Items
					// Four times the half width on either side: 1 in 20 intervals may miss, and a test may not.
					lo, hi := ci[0].Int, ci[1].Int
					if want < lo-(hi-lo) || want > hi+(hi-lo) {
						t.Errorf("%s, %s %s: [%d, %d], the truth is %d", how, name, column, lo, hi, want)
					}
				}
				check("keys_ci95", truth[name])
				check("bytes_ci95", bytes[name])
			}
		}
	})
}

func prefixName(key string) string {
	before, _, _ := strings.Cut(key, ":")
	return before + ":"
}

// TestPrefixUnseenGiant: one large key among 20,000 small ones, which a sample most likely misses, and which is less than what the server's
// memory is in doubt by. A server that keeps a histogram of sizes knows of it, and the interval reaches to it.
func TestPrefixUnseenGiant(t *testing.T) {
	v := cachetest.Newest(t, false)
	s := cachetest.Start(t, v)
	if !strings.Contains(s.Must("INFO", "keysizes").Str, "Keysizes") {
		t.Skipf("skipped: %s has no INFO keysizes, which Redis has since 8.0; scripts/cache-servers.sh fetches it", v.Name)
	}
	s.Fill(func(send func(...string)) {
		for i := range 20_000 {
			send("SET", fmt.Sprintf("%c:%d", 'a'+i%4, i), "a small value")
		}
		send("SET", "a:giant", strings.Repeat("g", 60_000))
	})
	r := newRig(t, seeds("main", s))
	truth := int64(0)
	for _, row := range r.ok("CACHE.PREFIX DUTY 1").Get("rows").Items {
		if row.Get("prefix").Str == "a:" {
			truth = row.Get("bytes").Int
		}
	}
	for range 5 {
		for _, row := range r.ok("CACHE.PREFIX DUTY 1 SAMPLE 2").Get("rows").Items {
			if ci := row.Get("bytes_ci95").Items; row.Get("prefix").Str == "a:" && (truth < ci[0].Int || truth > ci[1].Int) {
				t.Errorf("a: holds %d bytes, and the interval is %d to %d", truth, ci[0].Int, ci[1].Int)
			}
		}
	}
}
