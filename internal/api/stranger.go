package api

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/store"
)

// strangers remembers which hosts came with a certificate of ours and are not in the store: they were enrolled after
// the backup from which it was restored. Nobody counts them when they are out of service, so people are told, once.
type strangers struct {
	mu   sync.Mutex
	told map[fleet.HostID]bool
}

// maxStrangers bounds them. Each has a certificate that this CA gave away.
const maxStrangers = 10_000

// news says whether id is one that nobody was told of since the start.
func (s *strangers) news(id fleet.HostID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.told == nil {
		s.told = map[fleet.HostID]bool{}
	}
	if s.told[id] || len(s.told) >= maxStrangers {
		return false
	}
	s.told[id] = true
	return true
}

// unknown records that a host came which the store does not know. The host does not wait for it.
func (s *Server) unknown(ctx context.Context, id fleet.HostID, now time.Time) {
	if s.hosts.knows(id) || !s.strangers.news(id) {
		return
	}
	s.Log.WarnContext(ctx, "a host has a certificate of ours and is not known here", "host", id,
		"next", "it was enrolled after the backup: enrol it again with a new token; meanwhile it counts in no budget")
	s.background.Go(func() {
		if err := s.record(ctx, store.Event{
			At: now, Who: "host " + string(id), Kind: "host.unknown", Host: id,
			What: fmt.Sprintf("%s has a certificate of ours and is not known here", id),
			Why:  "it was enrolled after the backup from which this store was restored: enrol it again with a new token; meanwhile it counts in no budget",
		}); err != nil {
			s.Log.WarnContext(ctx, "an unknown host is not in the record", "host", id, "err", err)
		}
	})
}
