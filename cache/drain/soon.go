package drain

import (
	"context"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/kernwave/kernwave/cache"
	"github.com/kernwave/kernwave/cache/upstream"
)

// tooSoon says why heir may not stand for election in its cluster yet. A server that has won an election keeps the votes until
// four times the cluster's node timeout is over. If it became a replica again meanwhile, and is told to take over once
// more, it takes those old votes for new ones: it calls itself the primary, with an epoch that nobody else accepts, and the
// writes that it acknowledges until it learns that are lost. Seen with Redis 7.0.15; not with Valkey 9.1.2. How long a replica has
// been one is how old its connection to the primary is.
func (k *Keeper) tooSoon(ctx context.Context, n, heir *upstream.Node) error {
	if heir.Flavour == "valkey" && !older(heir.Version, "9.1") {
		return nil
	}
	v, err := heir.Do(ctx, "CONFIG", "GET", "cluster-node-timeout")
	if err != nil {
		return err
	}
	timeout := int64(15_000) // as servers are shipped
	if len(v.Items) == 2 {
		if ms, ok := v.Items[1].Integer(); ok {
			timeout = ms
		}
	}
	if v, err = n.Do(ctx, "CLIENT", "LIST", "TYPE", "replica"); err != nil {
		return err
	}
	need := 4*time.Duration(max(timeout, 1000))*time.Millisecond + time.Second
	host, _, _ := net.SplitHostPort(heir.Addr)
	youngest := time.Duration(-1) // of those from the heir's address, or of all
	for _, own := range []bool{true, false} {
		for line := range strings.SplitSeq(v.Str, "\n") {
			f := map[string]string{}
			for word := range strings.FieldsSeq(line) {
				key, val, _ := strings.Cut(word, "=")
				f[key] = val
			}
			from, _, _ := net.SplitHostPort(f["addr"])
			age, err := strconv.Atoi(f["age"])
			if err != nil || own && from != host {
				continue
			}
			if a := time.Duration(age) * time.Second; youngest < 0 || a < youngest {
				youngest = a
			}
		}
		if youngest >= 0 {
			break
		}
	}
	if youngest > need {
		return nil
	}
	wait := need - max(youngest, 0) + time.Second
	return cache.Errorf(cache.CodeGuard, "try again in "+wait.String(), "%s has followed %s for %s only: until %s, the votes of an election that it may have won before could be counted again, and writes be lost", heir.Addr, n.Addr, max(youngest, 0), need)
}
