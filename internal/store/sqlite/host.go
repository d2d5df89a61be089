package sqlite

import (
	"database/sql"
	"time"

	"github.com/kernwave/kernwave/fleet"
)

func (r *reader) Host(id fleet.HostID) (fleet.Host, error) {
	return one[fleet.Host](r, "host "+string(id), "SELECT body FROM host WHERE id = ?", id)
}

func (r *reader) Hosts() ([]fleet.Host, error) {
	return manyKnown(r, r.hosts, "hosts", "SELECT id, body FROM host ORDER BY id")
}

func (r *reader) HostsByStatus(s fleet.Status) ([]fleet.Host, error) {
	return manyKnown(r, r.hosts, "hosts", "SELECT id, body FROM host WHERE status = ? ORDER BY id", s)
}

func (w *writer) PutHost(h fleet.Host) error {
	return w.put("put host "+string(h.ID),
		"INSERT INTO host (id, status, body) VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE SET status = excluded.status, body = excluded.body",
		h, h.ID, h.Status)
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
