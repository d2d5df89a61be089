package sqlite

import (
	"database/sql"
	"fmt"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/store"
)

func (r *reader) EnrolToken(hash string) (store.EnrolToken, error) {
	return one[store.EnrolToken](r, "enrol token", "SELECT body FROM enrol_token WHERE hash = ?", hash)
}

func (r *reader) EnrolTokens() ([]store.EnrolToken, error) {
	return many[store.EnrolToken](r, "enrol tokens", "SELECT body FROM enrol_token ORDER BY seq")
}

func (w *writer) PutEnrolToken(t store.EnrolToken) error {
	return w.put("put enrol token",
		"INSERT INTO enrol_token (hash, body) VALUES (?, ?) ON CONFLICT (hash) DO UPDATE SET body = excluded.body", t, t.Hash)
}

func (r *reader) Operator(name string) (store.Operator, error) {
	return one[store.Operator](r, "operator "+name, "SELECT body FROM operator WHERE name = ?", name)
}

func (r *reader) Operators() ([]store.Operator, error) {
	return many[store.Operator](r, "operators", "SELECT body FROM operator ORDER BY name")
}

func (w *writer) PutOperator(o store.Operator) error {
	return w.put("put operator "+o.Name,
		"INSERT INTO operator (name, body) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET body = excluded.body", o, o.Name)
}

func (w *writer) DeleteOperator(name string) error {
	res, err := w.execResult("delete operator "+name, "DELETE FROM operator WHERE name = ?", name)
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n == 0 {
		return fmt.Errorf("operator %s: %w", name, store.ErrNotFound)
	}
	return nil
}

func (r *reader) Certificate(serial string) (store.Certificate, error) {
	return one[store.Certificate](r, "certificate "+serial, "SELECT body FROM certificate WHERE serial = ?", serial)
}

func (r *reader) CertificatesOf(h fleet.HostID) ([]store.Certificate, error) {
	return many[store.Certificate](r, "certificates of a host", "SELECT body FROM certificate WHERE host = ? ORDER BY seq", h)
}

func (r *reader) RevokedCertificates() (serials []string, err error) {
	err = r.each("revoked certificates", func(rows *sql.Rows) error {
		var s string
		if err := rows.Scan(&s); err != nil {
			return err
		}
		serials = append(serials, s)
		return nil
	}, "SELECT serial FROM certificate WHERE revoked = 1 ORDER BY serial")
	return serials, err
}

func (w *writer) PutCertificate(c store.Certificate) error {
	return w.put("put certificate "+c.Serial,
		`INSERT INTO certificate (serial, host, revoked, body) VALUES (?, ?, ?, ?)
		ON CONFLICT (serial) DO UPDATE SET host = excluded.host, revoked = excluded.revoked, body = excluded.body`,
		c, c.Serial, c.Host, !c.RevokedAt.IsZero())
}
