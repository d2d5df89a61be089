package builtin

import (
	"context"
	"time"

	"github.com/kernwave/kernwave/cache"
)

func (s *set) record() []*cache.Command {
	return []*cache.Command{
		{
			Name: "CACHE.AUDIT", Summary: "show the record: calls, approvals and changes, the newest last", Class: cache.Read, Args: []cache.Arg{cache.ArgTop, cache.ArgFormat}, Run: s.audit,
			Reply: []cache.Field{
				{Name: "seq", Type: "int", Help: "the event's number"},
				{Name: "at", Type: "string", Help: "when, UTC"},
				{Name: "who", Type: "string", Help: "a user, or gateway"},
				{Name: "kind", Type: "string", Help: "call.begun, approval.given, config.changed …"},
				{Name: "what", Type: "string", Help: "one sentence"},
				{Name: "why", Type: "string", Help: "the reason, or where the call came from"},
			},
			Examples: []string{"CACHE.AUDIT TOP 50"},
		},
		{
			Name: "CACHE.APPROVE", Summary: "agree to what another person wants to change", Class: cache.Write, Args: []cache.Arg{{Name: "id", Public: true, Help: "the question: p-…"}}, Run: s.approve,
			Guards:   []string{"not who asked, and not who wrote the command", "holds for 30 minutes, for the very plan that it names, once"},
			Examples: []string{"CACHE.APPROVE p-0123456789ab"},
		},
		{
			Name: "CACHE.APPROVALS", Summary: "list what waits for another person's agreement", Class: cache.Read, Args: []cache.Arg{cache.ArgFormat}, Run: s.approvals,
			Reply: []cache.Field{
				{Name: "id", Type: "string", Help: "what CACHE.APPROVE takes"},
				{Name: "what", Type: "string", Help: "what is wanted, and by whom"},
				{Name: "hash", Type: "string", Help: "of the plan"},
				{Name: "asked", Type: "string", Help: "when"},
				{Name: "given", Type: "string", Help: "who agreed; empty: nobody yet"},
			},
			Examples: []string{"CACHE.APPROVALS"},
		},
	}
}

func (s *set) audit(_ context.Context, c *cache.Call) (cache.Value, error) {
	events, err := s.Gateway.Log.Tail(int(c.Int("top")))
	if err != nil {
		return cache.Value{}, err
	}
	rows := cache.List()
	for _, e := range events {
		r := cache.Dict("seq", cache.Number(e.Seq), "at", cache.String(e.At.UTC().Format(time.RFC3339)), "who", cache.String(e.Who), "kind", cache.String(e.Kind), "what", cache.String(e.What), "why", cache.String(e.Why))
		if e.Node != "" {
			r.Add("node", cache.String(e.Node))
		}
		if e.Job != "" {
			r.Add("job", cache.String(e.Job))
		}
		rows.Items = append(rows.Items, r)
	}
	return cache.Dict("rows", rows), nil
}

func (s *set) approve(_ context.Context, c *cache.Call) (cache.Value, error) {
	if err := s.Approvals.Give(c.Text("id"), c.User); err != nil {
		return cache.Value{}, err
	}
	return cache.OK, nil
}

func (s *set) approvals(context.Context, *cache.Call) (cache.Value, error) {
	rows := cache.List()
	for _, q := range s.Approvals.List() {
		rows.Items = append(rows.Items, cache.Dict("id", cache.String(q.ID), "what", cache.String(q.What), "hash", cache.String(q.Hash), "asked", cache.String(q.At.Format(time.RFC3339)), "given", cache.String(q.Given)))
	}
	return cache.Dict("rows", rows), nil
}
