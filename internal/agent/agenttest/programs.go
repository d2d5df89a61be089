package agenttest

import (
	"context"
	"sync"
	"time"

	"github.com/kernwave/kernwave/internal/agent/hook"
)

// Programs is an operator's hooks made of nothing: one application that is drained or not. It is an agent.Programs.
type Programs struct {
	mu      sync.Mutex
	drained bool
	broken  error
	fail    map[hook.Kind]hook.Result
	takes   map[hook.Kind]time.Duration
	runs    []Run
	onRun   func(Run)
}

// Run is one program that was run.
type Run struct {
	At   time.Time
	Kind hook.Kind
	Env  hook.Env
}

// NewPrograms is an application that does as it is told. onRun, if not nil, hears of each program as it starts.
func NewPrograms(onRun func(Run)) *Programs {
	return &Programs{fail: map[hook.Kind]hook.Result{}, takes: map[hook.Kind]time.Duration{}, onRun: onRun}
}

// Fail has the programs of a kind end with r; a zero r lets them work again.
func (p *Programs) Fail(k hook.Kind, r hook.Result) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r == (hook.Result{}) {
		delete(p.fail, k)
		return
	}
	p.fail[k] = r
}

// Takes has the programs of a kind take d, at most until they time out.
func (p *Programs) Takes(k hook.Kind, d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.takes[k] = d
}

// Break has the files hold mistakes; nil mends them.
func (p *Programs) Break(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.broken = err
}

// Drained says whether the application is out of service.
func (p *Programs) Drained() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.drained
}

// Runs is what has been run so far.
func (p *Programs) Runs(k hook.Kind) []Run {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []Run
	for _, r := range p.runs {
		if r.Kind == k {
			out = append(out, r)
		}
	}
	return out
}

// Load gives one application with all four programs.
func (p *Programs) Load() (hook.Set, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.broken != nil {
		return hook.Set{}, p.broken
	}
	var ps []hook.Program
	for _, k := range []hook.Kind{hook.Drain, hook.Undrain, hook.Ready, hook.Check} {
		ps = append(ps, hook.Program{App: "app", Kind: k, Argv: []string{"app", string(k)}, Timeout: hook.DefaultTimeout})
	}
	return hook.NewSet(ps...), nil
}

// Run pretends to run a program. A drain that fails or is cut short has drained halfway.
func (p *Programs) Run(ctx context.Context, prog hook.Program, env hook.Env) hook.Result {
	run := Run{At: time.Now(), Kind: prog.Kind, Env: env}
	p.mu.Lock()
	p.runs = append(p.runs, run)
	takes := p.takes[prog.Kind]
	if prog.Kind == hook.Drain {
		p.drained = true
	}
	p.mu.Unlock()
	if p.onRun != nil {
		p.onRun(run)
	}
	if takes >= prog.Timeout {
		if wait(ctx, prog.Timeout) == nil {
			return hook.Result{What: "timed out after " + prog.Timeout.String(), Took: prog.Timeout}
		}
	}
	if err := wait(ctx, takes); err != nil {
		return hook.Result{What: err.Error()}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if r, ok := p.fail[prog.Kind]; ok {
		return r
	}
	switch prog.Kind {
	case hook.Undrain:
		p.drained = false
	case hook.Ready:
		if p.drained {
			return hook.Result{What: "exit status 1", Output: "drained\n"}
		}
	}
	return hook.Result{OK: true, Took: takes}
}
