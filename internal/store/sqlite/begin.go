package sqlite

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/store"
)

// meta keys.
const (
	metaEpoch = "epoch" // fleet.Incarnation
	metaPlace = "place" // place
	metaMoved = "moved" // why; no row: not moved
	// metaWrites counts the transactions that wrote anything. See hot.go.
	metaWrites = "writes"
	// metaBranch ends the ids that are counted since the store was restored or cloned; no row: it never was.
	metaBranch = "branch"
	// metaRebuild is a store.Rebuild.
	metaRebuild = "rebuild"
	// metaObeyed is the highest fleet.Incarnation that hosts are known to have obeyed, here or elsewhere.
	metaObeyed = "obeyed"
)

// place is where the store was when it was begun last.
type place struct {
	MachineID string    `json:"machine_id"`
	Dir       string    `json:"dir"`
	At        time.Time `json:"at,omitzero"`
}

// Begin implements [store.Store].
func (s *Store) Begin(ctx context.Context, p store.Place) (st store.Start, err error) {
	if p.Instance == "" {
		return st, fmt.Errorf("begin: a place needs an instance id")
	}
	var begun string
	err = s.update(ctx, func(w *writer) error {
		epoch, err := w.Epoch()
		if err != nil {
			return err
		}
		var last place
		if err := w.metaJSON(metaPlace, &last); err != nil {
			return err
		}
		if st.Moved, err = w.meta(metaMoved); err != nil {
			return err
		}
		here := place{MachineID: p.MachineID, Dir: p.Dir, At: p.At}
		var obeyed fleet.Incarnation
		if err := w.metaJSON(metaObeyed, &obeyed); err != nil {
			return err
		}
		var mark Mark
		if err := w.metaJSON(metaBackup, &mark); err != nil {
			return err
		}
		moved := ""
		switch {
		case mark != (Mark{}):
			moved = fmt.Sprintf("it is the backup that %s made at %s", mark.By, mark.At.UTC().Format(time.RFC3339))
			last.At = time.Time{} // says nothing more
			if err := w.exec("unmark the backup", "DELETE FROM meta WHERE key = ?", metaBackup); err != nil {
				return err
			}
		case epoch == (fleet.Incarnation{}):
			epoch.Incarnation = 1 // a new store
		case p.Raise:
			moved = "an operator said that it was restored"
		case last.MachineID != here.MachineID:
			moved = "it was last used on another machine"
		case last.Dir != here.Dir:
			moved = fmt.Sprintf("its directory is another one than last time (device:inode %s, was %s)", here.Dir, last.Dir)
		case obeyed.Incarnation == epoch.Incarnation && obeyed.Term > epoch.Term:
			moved = fmt.Sprintf("hosts have obeyed its term %d, and it only knows terms up to %d: it was put back to an older state", obeyed.Term, epoch.Term)
		}
		if moved != "" {
			epoch.Incarnation = max(epoch.Incarnation, obeyed.Incarnation) + 1
			st.Moved = "the store was restored or cloned: " + moved
			if !last.At.IsZero() {
				st.Moved += "; the control plane that wrote it was started at " + last.At.UTC().Format(time.RFC3339)
			}
			if err := w.moved(store.Rebuild{Incarnation: epoch.Incarnation, Why: st.Moved, At: p.At}); err != nil {
				return err
			}
		}
		// The term runs on over incarnations: it only ever rises.
		epoch.Term++
		epoch.Instance = p.Instance
		st.Incarnation = epoch
		if err := w.setMetaJSON(metaEpoch, epoch); err != nil {
			return err
		}
		if begun, err = w.meta(metaEpoch); err != nil {
			return err
		}
		return w.setMetaJSON(metaPlace, here)
	})
	if err != nil {
		return store.Start{}, fmt.Errorf("begin: %w", err)
	}
	s.begun.Store(&begun)
	return st, nil
}

// moved records that the store was restored or cloned: what has to be learned anew, and what keeps the ids that it
// draws apart from those that the original, or an other copy, draws after the same number.
func (w *writer) moved(rb store.Rebuild) error {
	var b [3]byte
	if _, err := io.ReadFull(w.store.opts.Rand, b[:]); err != nil {
		return fmt.Errorf("draw the end of ids: %w", err)
	}
	if err := w.setMeta(metaMoved, rb.Why); err != nil {
		return err
	}
	if err := w.setMeta(metaBranch, hex.EncodeToString(b[:])); err != nil {
		return err
	}
	return w.setMetaJSON(metaRebuild, rb)
}

// Rebuild implements [store.Reader].
func (r *reader) Rebuild() (store.Rebuild, error) {
	h, err := r.Hot()
	if err != nil {
		return store.Rebuild{}, err
	}
	return h.Rebuild, nil
}

// PutRebuild implements [store.Tx].
func (w *writer) PutRebuild(rb store.Rebuild) error {
	if _, err := w.Hot(); err != nil {
		return err
	}
	if err := w.setMetaJSON(metaRebuild, rb); err != nil {
		return err
	}
	w.change(func(h *store.Hot) { h.Rebuild = rb })
	return nil
}

// PutObeyed implements [store.Tx].
func (w *writer) PutObeyed(i fleet.Incarnation) error {
	var had fleet.Incarnation
	if err := w.metaJSON(metaObeyed, &had); err != nil || !later(i, had) {
		return err
	}
	return w.setMetaJSON(metaObeyed, i)
}

// later says whether i began after j, as far as incarnation and term tell.
func later(i, j fleet.Incarnation) bool {
	return i.Incarnation > j.Incarnation || i.Incarnation == j.Incarnation && i.Term > j.Term
}

// Epoch implements [store.Reader].
func (r *reader) Epoch() (i fleet.Incarnation, err error) {
	err = r.metaJSON(metaEpoch, &i)
	return i, err
}

// SettleMove implements [store.Tx].
func (w *writer) SettleMove() error {
	return w.exec("settle move", "DELETE FROM meta WHERE key = ?", metaMoved)
}

func (r *reader) meta(key string) (string, error) {
	var v string
	found, err := r.scan("meta "+key, []any{&v}, "SELECT value FROM meta WHERE key = ?", key)
	if err != nil || !found {
		return "", err
	}
	return v, nil
}

// metaJSON leaves v alone when the key is not there.
func (r *reader) metaJSON(key string, v any) error {
	s, err := r.meta(key)
	if err != nil || s == "" {
		return err
	}
	if err := json.Unmarshal([]byte(s), v); err != nil {
		return fmt.Errorf("read meta %s: %w", key, err)
	}
	return nil
}

func (w *writer) setMeta(key, value string) error {
	return w.exec("set meta "+key, "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value", key, value)
}

func (w *writer) setMetaJSON(key string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return w.setMeta(key, string(b))
}
