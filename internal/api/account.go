package api

import (
	"context"
	"crypto/subtle"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/kernwave/kernwave/internal/operator"
	"github.com/kernwave/kernwave/internal/store"
)

// accounts are the operators, in memory: a stop must work when the store does not.
type accounts struct {
	// changing is held over a change in the store and here, so that both see changes in one order.
	changing sync.Mutex

	mu     sync.RWMutex
	byHash map[string]operator.Account
}

func (a *accounts) load(ctx context.Context, s store.Store) error {
	byHash := map[string]operator.Account{}
	if err := s.View(ctx, func(r store.Reader) error {
		os, err := r.Operators()
		for _, o := range os {
			byHash[o.TokenHash] = o.Account
		}
		return err
	}); err != nil {
		return fmt.Errorf("load the operators: %w", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.byHash = byHash
	return nil
}

func (a *accounts) add(o store.Operator) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.byHash[o.TokenHash] = o.Account
}

func (a *accounts) remove(name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for h, o := range a.byHash {
		if o.Name == name {
			delete(a.byHash, h)
		}
	}
}

// authenticate says whose token an Authorization header carries.
func (a *accounts) authenticate(op, header string, now time.Time) (operator.Account, error) {
	const next = "use an operator's token: kernwave --token-file, or the header \"Authorization: Bearer TOKEN\""
	if header == "" {
		return operator.Account{}, refuse(errUnauthenticated, op, "", "there is no operator's token with the request", next)
	}
	scheme, token, ok := strings.Cut(header, " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return operator.Account{}, refuse(errUnauthenticated, op, "", "the Authorization header is not \"Bearer TOKEN\"", next)
	}
	token = strings.TrimSpace(token)
	if why := wrongToken(token, operatorToken); why != "" {
		return operator.Account{}, refuse(errUnauthenticated, op, "", why, next)
	}
	hash := hashToken(token)
	a.mu.RLock()
	defer a.mu.RUnlock()
	// All of them are compared, so that the time tells nothing; there are few.
	var found operator.Account
	for h, o := range a.byHash {
		if subtle.ConstantTimeCompare([]byte(h), []byte(hash)) == 1 {
			found = o
		}
	}
	switch {
	case found.Name == "":
		return found, refuse(errUnauthenticated, op, "", "nobody has this operator's token", "ask an admin for a new one; the old one may have been deleted")
	case !found.ExpiresAt.IsZero() && !now.Before(found.ExpiresAt):
		return operator.Account{}, refuse(errUnauthenticated, op, "",
			"the token of operator "+found.Name+" ran out at "+found.ExpiresAt.UTC().Format(time.RFC3339), "ask an admin for a new one")
	}
	return found, nil
}

func addFirstAdmin(tx store.Tx, tokenHash string, now time.Time) error {
	o := store.Operator{
		Account:   operator.Account{Name: "admin", Role: operator.RoleAdmin, CreatedAt: now},
		TokenHash: tokenHash, CreatedBy: "control",
	}
	if err := tx.PutOperator(o); err != nil {
		return err
	}
	_, err := tx.AppendEvent(store.Event{At: now, Who: "control", Kind: "operator.created", What: "operator admin may do everything", Why: "first start"})
	return err
}
