package builtin

import (
	"context"
	"time"

	"github.com/kernwave/kernwave/cache"
)

var argJob = cache.Arg{Name: "id", Public: true, Help: "the job: j-…"}

func (s *set) jobs() []*cache.Command {
	return []*cache.Command{
		{
			Name: "CACHE.JOB LIST", Summary: "list the calls that run, and the newest that ran", Class: cache.Read, Args: []cache.Arg{cache.ArgTop, cache.ArgFormat}, Run: s.jobList,
			Reply: []cache.Field{
				{Name: "job", Type: "string", Help: "its id"},
				{Name: "command", Type: "string", Help: "the call; keys and patterns are hashed"},
				{Name: "who", Type: "string", Help: "who called"},
				{Name: "state", Type: "string", Help: "running, done, failed, cancelled"},
				{Name: "began", Type: "string", Help: "when"},
				{Name: "took_ms", Type: "int", Help: "until its end, or until now"},
			},
			Examples: []string{"CACHE.JOB LIST"},
		},
		{
			Name: "CACHE.JOB TAIL", Summary: "follow a call until it ends, and show its reply", Class: cache.Read, Args: []cache.Arg{argJob, cache.ArgFormat}, Run: s.jobTail,
			Help:     "In RESP3 its progress comes as pushes. In RESP2 nothing comes before the reply: ask CACHE.JOB LIST, or SUBSCRIBE cache.jobs on another connection.",
			Examples: []string{"CACHE.JOB TAIL j-0123456789ab"},
		},
		{
			Name: "CACHE.JOB CANCEL", Summary: "end a call that runs", Class: cache.Read, Args: []cache.Arg{argJob}, Run: s.jobCancel,
			Guards: []string{"your own calls; an admin's, every one"}, Examples: []string{"CACHE.JOB CANCEL j-0123456789ab"},
		},
	}
}

func (s *set) jobList(_ context.Context, c *cache.Call) (cache.Value, error) {
	all := s.Gateway.Jobs.All()
	rows := cache.List()
	for i := len(all) - 1; i >= 0 && len(rows.Items) < int(c.Int("top")); i-- { // the newest first
		j := all[i]
		if j.ID == c.Job {
			continue
		}
		end := j.Ended()
		if end.IsZero() {
			end = time.Now()
		}
		rows.Items = append(rows.Items, cache.Dict("job", cache.String(j.ID), "command", cache.String(j.What), "who", cache.String(j.Who), "state", cache.String(j.State()),
			"began", cache.String(j.Began.UTC().Format(time.RFC3339)), "took_ms", cache.Number(end.Sub(j.Began).Milliseconds())))
	}
	return cache.Dict("rows", rows), nil
}

// job finds a job that the caller may see: their own, or as an admin any.
func (s *set) job(c *cache.Call) (*cache.Job, error) {
	j := s.Gateway.Jobs.Find(c.Text("id"))
	switch {
	case j == nil:
		return nil, cache.Errorf(cache.CodeErr, "CACHE.JOB LIST shows those that there are", "there is no job %s", c.Text("id"))
	case j.Who != c.User.Name && c.User.Role != cache.Admin:
		return nil, cache.Errorf(cache.CodeNoPerm, "ask them, or an admin", "%s is %s's", j.ID, j.Who)
	case j.ID == c.Job:
		return nil, cache.Errorf(cache.CodeErr, "", "%s is this call", j.ID)
	}
	return j, nil
}

func (s *set) jobTail(ctx context.Context, c *cache.Call) (cache.Value, error) {
	j, err := s.job(c)
	if err != nil {
		return cache.Value{}, err
	}
	return j.Follow(ctx, c.Progress)
}

func (s *set) jobCancel(_ context.Context, c *cache.Call) (cache.Value, error) {
	j, err := s.job(c)
	if err != nil {
		return cache.Value{}, err
	}
	if j.State() != cache.Running {
		return cache.Value{}, cache.Errorf(cache.CodeErr, "", "%s has ended: it is %s", j.ID, j.State())
	}
	j.Cancel(c.User.Name)
	return cache.OK, nil
}
