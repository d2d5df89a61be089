package drain

import (
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kernwave/kernwave/cache/cachetest"
)

// TestReplicaFromSnapshot: in a plain pair, when neither is the primary, the gateway dies, and the replica too. It comes back with what was in its
// snapshot, which is less, but of the same history, and the next gateway does not let it be the primary.
func TestReplicaFromSnapshot(t *testing.T) {
	if why := cachetest.NoCut(); why != "" {
		t.Skip("skipped: packets cannot be made to vanish here (apt-get install nftables): " + why)
	}
	defer func() { must(t, cachetest.Heal()) }()
	for _, v := range cachetest.Two(t) {
		t.Run(v.Name, func(t *testing.T) {
			p := cachetest.StartPair(t, v, 1)
			a, b := p.Primary, p.Replicas[0]
			b.Must("SAVE")
			a.Fill(func(send func(...string)) {
				for i := range 100 {
					send("SET", strconv.Itoa(i), "x")
				}
			})
			a.Must("WAIT", "1", "60000")
			path, seeds := filepath.Join(t.TempDir(), "j"), cachetest.Addrs(a, b)
			first := cachetest.StartGateway(t, path, seeds, "promote")
			defer first.Kill()
			must(t, cachetest.CutOpening(a.Host, b.Host))
			first.Send(approved(t, first, a.Addr()))
			cachetest.Eventually(t, "the old primary is none any more", func() bool { return !primary(a) })
			first.Kill()
			b.Kill()
			b.Restart()
			must(t, cachetest.Heal())
			time.Sleep(3 * time.Second) // servers that would finish by themselves have done so
			next := cachetest.StartGateway(t, path, seeds, "0")
			defer next.Kill()
			cachetest.Eventually(t, "it has ended", func() bool {
				return !strings.Contains(next.Ask("ada CACHE.DRAINS", cachetest.Patience), `"state":"draining"`)
			})
			said := next.Ask("ada CACHE.DRAINS", cachetest.Patience)
			now := a
			if primary(b) {
				now = b
			}
			if n := now.Must("DBSIZE"); n.Int != 100 {
				t.Errorf("%s: of 100 acknowledged writes the primary has %d", said, n.Int)
			}
			if primary(a) == primary(b) || !strings.Contains(said, `"state":"unchanged"`) {
				t.Errorf("a is the primary: %t, b is: %t, and it ended as %s", primary(a), primary(b), said)
			}
		})
	}
}
