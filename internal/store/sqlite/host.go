package sqlite

import (
	"database/sql"
	"fmt"
	"slices"
	"time"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/store"
)

func (r *reader) Host(id fleet.HostID) (fleet.Host, error) {
	h, err := r.Hot()
	if err != nil {
		return fleet.Host{}, err
	}
	v := h.Hosts.Get(id)
	if v == nil {
		return fleet.Host{}, fmt.Errorf("host %s: %w", id, store.ErrNotFound)
	}
	return *v, nil
}

func (r *reader) Hosts() ([]fleet.Host, error) {
	return r.hostsThat(func(*fleet.Host) bool { return true })
}

func (r *reader) HostsByStatus(s fleet.Status) ([]fleet.Host, error) {
	return r.hostsThat(func(h *fleet.Host) bool { return h.Status == s })
}

func (r *reader) hostsThat(keep func(*fleet.Host) bool) ([]fleet.Host, error) {
	h, err := r.Hot()
	if err != nil {
		return nil, err
	}
	ids := make([]fleet.HostID, 0, h.Hosts.Len())
	for id, v := range h.Hosts.All() {
		if keep(v) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	hosts := make([]fleet.Host, len(ids))
	for i, id := range ids {
		hosts[i] = *h.Hosts.Get(id)
	}
	return hosts, nil
}

func (w *writer) PutHost(v fleet.Host) error {
	read, _, err := write(w, "put host "+string(v.ID), v,
		"INSERT INTO host (id, status, body) VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE SET status = excluded.status, body = excluded.body",
		v.ID, v.Status)
	if err == nil {
		w.change(func(h *store.Hot) { h.Hosts = h.Hosts.Put(v.ID, read) })
	}
	return err
}

func (r *reader) LastSeen() (map[fleet.HostID]time.Time, error) {
	seen := map[fleet.HostID]time.Time{}
	err := r.each("last seen", func(rows *sql.Rows) error {
		var id fleet.HostID
		var at int64
		if err := rows.Scan(&id, &at); err != nil {
			return err
		}
		seen[id] = fromNanos(at)
		return nil
	}, "SELECT host, at FROM last_seen")
	return seen, err
}

func (w *writer) PutLastSeen(seen map[fleet.HostID]time.Time) error {
	for id, at := range seen {
		if err := w.exec("put last seen",
			"INSERT INTO last_seen (host, at) VALUES (?, ?) ON CONFLICT (host) DO UPDATE SET at = max(at, excluded.at)",
			id, nanos(at)); err != nil {
			return err
		}
	}
	return nil
}
