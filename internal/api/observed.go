package api

import (
	"context"
	"errors"

	"github.com/kernwave/kernwave/internal/store"
)

// Observe counts the failures of a store. Give the result to all who use it.
func (m *Metrics) Observe(s store.Store) store.Store { return observed{s, m} }

type observed struct {
	store.Store
	m *Metrics
}

func (o observed) count(err error) error {
	// Whoever gave up by themselves did not see the store fail.
	if _, broken := errors.AsType[*store.Error](err); broken && !errors.Is(err, context.Canceled) {
		o.m.StoreError()
	}
	return err
}

func (o observed) View(ctx context.Context, f func(store.Reader) error) error {
	return o.count(o.Store.View(ctx, f))
}

func (o observed) Update(ctx context.Context, f func(store.Tx) error) error {
	return o.count(o.Store.Update(ctx, f))
}
