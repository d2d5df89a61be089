package cache

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"
)

// Jobs are the calls that run, and the newest that ran. The zero value is ready. It is safe for concurrent use.
type Jobs struct {
	mu   sync.Mutex
	jobs []*Job // oldest first
	wg   sync.WaitGroup
}

// maxJobs is how many ended jobs are remembered, with their replies.
const maxJobs = 200

// Job is one call.
type Job struct {
	ID      string
	Command string
	What    string // the call, redacted
	Who     string
	From    string
	Began   time.Time

	mu       sync.Mutex
	ended    time.Time
	progress Value
	reply    Value
	err      error
	changed  chan struct{} // closed at the next progress and at the end
	cancel   context.CancelCauseFunc
}

// State of a job.
const (
	Running   = "running"
	Done      = "done"
	Failed    = "failed"
	Cancelled = "cancelled"
)

// begin adds a job.
func (js *Jobs) begin(j *Job) {
	j.changed = make(chan struct{})
	js.mu.Lock()
	defer js.mu.Unlock()
	js.wg.Add(1)
	js.jobs = append(js.jobs, j)
	old := len(js.jobs) - maxJobs
	js.jobs = slices.DeleteFunc(js.jobs, func(x *Job) bool {
		if old > 0 && x.State() != Running {
			old--
			return true
		}
		return false
	})
}

// end says how it ended.
func (js *Jobs) end(j *Job, v Value, err error, now time.Time) {
	j.mu.Lock()
	j.ended, j.reply, j.err = now, v, err
	close(j.changed)
	j.mu.Unlock()
	js.wg.Done()
}

func (j *Job) tell(v Value) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.progress = v
	close(j.changed)
	j.changed = make(chan struct{})
}

// State is running, done, failed or cancelled.
func (j *Job) State() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	switch e, _ := errors.AsType[*Error](j.err); {
	case j.ended.IsZero():
		return Running
	case e != nil && e.Code == CodeCancelled:
		return Cancelled
	case j.err != nil:
		return Failed
	}
	return Done
}

// Ended is when; zero while it runs.
func (j *Job) Ended() time.Time {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.ended
}

// Latest is the newest progress; null before the first.
func (j *Job) Latest() Value {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.progress
}

// Follow calls tell with each progress from now on, the latest first, and returns the job's reply when it ends.
func (j *Job) Follow(ctx context.Context, tell func(Value)) (Value, error) {
	for {
		j.mu.Lock()
		changed, progress, ended, v, err := j.changed, j.progress, !j.ended.IsZero(), j.reply, j.err
		j.mu.Unlock()
		if ended {
			return v, err
		}
		if !progress.IsNull() {
			tell(progress)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return Value{}, context.Cause(ctx)
		}
	}
}

// Cancel ends the job; who is for the record and for whoever waits for it.
func (j *Job) Cancel(who string) {
	j.cancel(Errorf(CodeCancelled, "", "%s was cancelled by %s", j.ID, who))
}

// Find returns a job by its id.
func (js *Jobs) Find(id string) *Job {
	js.mu.Lock()
	defer js.mu.Unlock()
	for _, j := range js.jobs {
		if strings.EqualFold(j.ID, id) {
			return j
		}
	}
	return nil
}

// All returns the jobs, oldest first.
func (js *Jobs) All() []*Job {
	js.mu.Lock()
	defer js.mu.Unlock()
	return slices.Clone(js.jobs)
}

// Close cancels what runs and waits for its end.
func (js *Jobs) Close() {
	for _, j := range js.All() {
		if j.State() == Running {
			j.Cancel("the gateway, which stops")
		}
	}
	js.wg.Wait()
}
