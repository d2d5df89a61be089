package upstream

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// The controller's figures. They were found on loopback with servers of a million keys: a page of 50 keys with three
// questions each takes about half a millisecond, and keeps the server busy for a third of that.
const (
	canaryEvery   = 4 * time.Millisecond // between two pings: what a customer would feel, sampled
	windowPages   = 16                   // pages between two decisions
	windowPings   = 8                    // and at least as many pings
	dutyFirst     = 0.15
	dutyUp        = 0.02
	dutyStart     = 0.08 // instead, until a ping is felt to take longer for the first time: else a short walk is over before it is at its speed
	dutyLeast     = 0.02
	cutsOpen      = 3                     // cuts in a row that open the breaker
	stallOpens    = 25 * time.Millisecond // one ping that takes this long, and much longer than it did before, opens it at once
	stallRatio    = 8.0
	calmFirst     = 250 * time.Millisecond // how long the breaker stays open, doubled each time it opens again without a good window
	calmMost      = 4 * time.Second
	opensMost     = 8                      // times in a row; then the node is left alone
	baselineFor   = 150 * time.Millisecond // pings before the work begins, for as long
	baselineMost  = 5 * time.Second        // or until there are enough of them
	baselineLeast = 16
	metronome     = 2 * time.Millisecond   // how often the gateway looks whether it was itself kept from running
	noiseFloor    = 200 * time.Microsecond // differences below are the network's, not the server's
	healthEvery   = time.Second
	lagMost       = 16 << 20 // bytes a replica may fall behind while it is scanned
	evictMost     = 2.0      // times the evictions per second from before
	evictIgnored  = 100      // evictions per second that nobody minds
)

// DutyMost is the most of a server's time that a paced job takes unless it is told otherwise.
const DutyMost = 0.7

// Pacer throttles one job on one node by what a customer would feel: it goes up slowly and down at once, and stops when
// that does not help. Not safe for concurrent use, but for Report.
type Pacer struct {
	node  *Node
	slack float64
	most  float64

	stop   context.CancelFunc
	done   chan struct{}
	health chan struct{}
	still  chan struct{}

	mu       sync.Mutex
	duty     float64
	base     time.Duration // p94 of the pings before the work
	pings    []time.Duration
	paged    int // pages of this window
	cutsRow  int
	report   GuardReport
	tripped  string // why the breaker opens at the next page; empty: it does not
	calm     time.Duration
	opensRow int
	dead     error
	lost     time.Duration // that the gateway was kept from running

	debt  time.Duration // only Page and its like use it
	pages pages         // and these
}

// Pace begins to watch n. slack is how many times longer than before a ping may take before the job slows down, zero
// means 2; most is the largest part of the node's time it may take, zero means DutyMost. Close ends it.
func (n *Node) Pace(ctx context.Context, slack, most float64) (*Pacer, error) {
	if slack == 0 {
		slack = 2
	}
	if most == 0 {
		most = DutyMost
	}
	dctx, cancelDial := context.WithTimeoutCause(ctx, n.cluster.cfg.Timeout, fmt.Errorf("no answer within %s", n.cluster.cfg.Timeout))
	defer cancelDial()
	c, err := n.Dial(dctx)
	if err != nil {
		return nil, err
	}
	first, err := n.vitals(dctx)
	if err != nil {
		_ = c.Close()
		return nil, err
	}
	p := &Pacer{node: n, slack: slack, most: most, done: make(chan struct{}), health: make(chan struct{}), still: make(chan struct{}), duty: min(dutyFirst, most), calm: calmFirst}
	if why := first.unfit(); why != "" {
		_ = c.Close()
		return nil, &Failure{Node: n.Addr, Err: &ErrGuard{why}}
	}
	watch, stop := context.WithCancel(ctx)
	p.stop = stop
	go p.beat(watch)
	go p.canary(watch, c)
	go p.watchHealth(watch, first)
	began := time.Now()
	for {
		t := time.NewTimer(baselineFor)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			p.Close()
			return nil, context.Cause(ctx)
		}
		p.mu.Lock()
		enough, dead := len(p.pings) >= baselineLeast, p.dead
		p.mu.Unlock()
		if dead != nil {
			p.Close()
			return nil, &Failure{Node: n.Addr, Err: dead}
		}
		if enough {
			break
		}
		if time.Since(began) > baselineMost {
			p.Close()
			return nil, &Failure{Node: n.Addr, Err: &ErrGuard{fmt.Sprintf("fewer than %d pings were answered within %s: the server, or the gateway's machine, is too busy to tell what a walk would do to it", baselineLeast, baselineMost)}}
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.base = max(quantile(p.pings, 94), 20*time.Microsecond)
	p.report.Base = p.base
	p.pages.fixed = float64(max(quantile(p.pings, 50), time.Microsecond))
	p.pings = nil
	return p, nil
}

// Close ends the watch and waits for it.
func (p *Pacer) Close() {
	p.stop()
	<-p.done
	<-p.health
	<-p.still
}

// beat notes when the gateway itself did not get to run: a ping that was out meanwhile says nothing about the server.
func (p *Pacer) beat(ctx context.Context) {
	defer close(p.still)
	t := time.NewTicker(metronome)
	defer t.Stop()
	last := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		now := time.Now()
		if gap := now.Sub(last) - metronome; gap > metronome {
			p.mu.Lock()
			p.lost += gap
			p.mu.Unlock()
		}
		last = now
	}
}

// own is how long the gateway was kept from running so far.
func (p *Pacer) own() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lost
}

// canary pings as a customer would, on a connection of its own.
func (p *Pacer) canary(ctx context.Context, c *Conn) {
	defer close(p.done)
	defer c.Close()
	t := time.NewTicker(canaryEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		began, lost := time.Now(), p.own()
		one, cancel := context.WithTimeoutCause(ctx, p.node.cluster.cfg.Timeout, fmt.Errorf("no answer within %s", p.node.cluster.cfg.Timeout))
		// What is still out must open the breaker, too: waiting for the answer would be waiting for the end of the stall.
		late := time.AfterFunc(p.stall(), func() { p.saw(time.Since(began)-(p.own()-lost), false) })
		_, err := c.Do(one, "PING")
		late.Stop()
		cancel()
		if err != nil {
			if ctx.Err() == nil {
				p.kill(fmt.Errorf("the canary: %w", err))
			}
			return
		}
		kept := p.own() - lost // the metronome may be behind by a beat, which only makes this stricter
		p.saw(time.Since(began)-kept, kept == 0)
	}
}

// stall is the length of a ping that opens the breaker at once.
func (p *Pacer) stall() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.base == 0 {
		return time.Hour // no baseline yet
	}
	return max(stallOpens, time.Duration(stallRatio*float64(p.base)))
}

func (p *Pacer) saw(rtt time.Duration, whole bool) {
	limit := p.stall()
	p.mu.Lock()
	defer p.mu.Unlock()
	if whole {
		p.pings = append(p.pings, rtt)
	}
	if rtt >= limit && p.tripped == "" {
		p.tripped = fmt.Sprintf("a ping took %s or more, before the work began they took %s", rtt.Round(time.Millisecond), p.base.Round(time.Microsecond))
	}
}

func (p *Pacer) kill(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dead == nil {
		p.dead = err
	}
}

// Keys is how many keys the next page of a walk is to have.
func (p *Pacer) Keys() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pages.size(p.duty)
}

// Walked is [Pacer.Page] after a page of so many keys, asked for as [Pacer.Keys] says: the smaller it was, the less is waited.
func (p *Pacer) Walked(ctx context.Context, keys int, busy time.Duration) error {
	p.pages.saw(keys, busy)
	return p.turn(ctx, busy, func(duty float64) float64 { return p.pages.working(keys, duty) })
}

// Page says that a page kept the node busy for so long, waits for as long as it must, and returns an error when the job
// must end here: an [*ErrGuard], or what ctx says.
func (p *Pacer) Page(ctx context.Context, busy time.Duration) error {
	return p.turn(ctx, busy, func(duty float64) float64 { return duty })
}

// turn waits so that the job works for a part of the time only, which follows from the duty.
func (p *Pacer) turn(ctx context.Context, busy time.Duration, working func(duty float64) float64) error {
	p.mu.Lock()
	p.paged++
	if p.dead != nil {
		defer p.mu.Unlock()
		return p.dead
	}
	if p.tripped != "" {
		p.open()
	} else if p.paged >= windowPages && len(p.pings) >= windowPings {
		p.decide()
	}
	wait := time.Duration(0)
	if p.tripped != "" {
		wait = p.calm
		p.tripped = ""
		p.calm = min(2*p.calm, calmMost)
		if p.opensRow++; p.opensRow > opensMost {
			err := &ErrGuard{fmt.Sprintf("the breaker opened %d times in a row: %s", p.opensRow, p.report.Why)}
			p.mu.Unlock()
			return err
		}
	}
	part := working(p.duty)
	p.mu.Unlock()
	p.debt += time.Duration(float64(busy) * (1 - part) / part)
	if wait > 0 {
		p.debt = max(p.debt, wait)
	}
	if p.debt < time.Millisecond { // the clock of a sleeping goroutine is no finer
		return ctx.Err()
	}
	began := time.Now()
	t := time.NewTimer(p.debt)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	slept := time.Since(began)
	p.debt -= slept // oversleeping is credited to the next pages
	p.debt = max(p.debt, -50*time.Millisecond)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.report.Throttle += slept
	if wait > 0 { // what was seen while the breaker was open belongs to nobody's window
		p.pings, p.paged, p.tripped = nil, 0, ""
	}
	return p.dead
}

// open opens the breaker. The caller holds mu.
func (p *Pacer) open() {
	p.report.Opens++
	p.report.Why = p.tripped
	p.duty = max(dutyLeast, p.duty/4)
	p.cutsRow = 0
}

// decide ends a window. The caller holds mu.
func (p *Pacer) decide() {
	now := quantile(p.pings, 94)
	p.pings, p.paged = nil, 0
	ratio := float64(now) / float64(p.base)
	p.report.Ratio = max(p.report.Ratio, ratio)
	if now <= time.Duration(p.slack*float64(p.base))+noiseFloor {
		up := dutyUp
		if p.report.Cuts == 0 && p.report.Opens == 0 {
			up = dutyStart
		}
		p.duty = min(p.most, p.duty+up)
		p.cutsRow, p.opensRow, p.calm = 0, 0, calmFirst
		return
	}
	p.duty = max(dutyLeast, p.duty/2)
	p.report.Cuts++
	p.report.Why = fmt.Sprintf("pings took %.1f times as long as before", ratio)
	if p.cutsRow++; p.cutsRow >= cutsOpen {
		p.tripped = fmt.Sprintf("%d windows in a row were cut: %s", p.cutsRow, p.report.Why)
		p.open()
	}
}

// Report is what the guards have done so far.
func (p *Pacer) Report() GuardReport {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.report
	r.Duty = p.duty
	return r
}
