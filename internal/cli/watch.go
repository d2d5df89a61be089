package cli

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/spf13/cobra"

	kwv1 "github.com/kernwave/kernwave/api/gen/kernwave/v1"
	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/operator"
	"github.com/kernwave/kernwave/internal/wire"
)

const (
	watchEvery    = 2 * time.Second
	watchPatience = 10 * time.Minute
	// minEvery keeps a typing error from becoming a load test.
	minEvery = 100 * time.Millisecond
)

// watchFlags say how to watch.
type watchFlags struct {
	every       time.Duration // between two questions
	patience    time.Duration // how long the control plane may be away
	untilPaused bool
	plain       bool
}

func (a *app) rolloutWatchCommand() *cobra.Command {
	var f watchFlags
	cmd := &cobra.Command{
		Use: "watch [ROLLOUT]", Short: "watch a rollout until it ends; the newest, if none is named",
		Long: `Shows a rollout until it ends. In a terminal: waves, hosts, time left, incidents and what it
waits for, drawn again as things change; Ctrl-C leaves, and the rollout goes on. Elsewhere, or
with --plain: one line for each change. With -o json: one object a line, when something changed.

Ends with 0 when the rollout is done, 1 when it ended otherwise, 3 when it is paused and
--until-paused is given, 4 when the control plane was away for longer than --patience.`,
		Example: "  kernwave rollout watch\n  kernwave rollout watch r-7 --until-paused --plain",
		Args:    atMostOne, ValidArgsFunction: a.completeNames(a.rolloutNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.every < minEvery {
				return &usageError{"--every " + f.every.String() + ": at least " + minEvery.String(), "use for example --every 2s"}
			}
			id, err := a.rolloutID(cmd.Context(), args)
			if err != nil {
				return err
			}
			return a.watch(cmd.Context(), id, f)
		},
	}
	cmd.Flags().BoolVar(&f.untilPaused, "until-paused", false, "end with exit code 3 when the rollout is paused")
	cmd.Flags().BoolVar(&f.plain, "plain", false, "lines instead of the live view, also in a terminal")
	cmd.Flags().DurationVar(&f.every, "every", watchEvery, "how often to ask")
	cmd.Flags().DurationVar(&f.patience, "patience", watchPatience, "how long to go on while the control plane is away")
	return cmd
}

// watched is what is known of a rollout at one moment.
type watched struct {
	rollout   operator.Rollout
	incidents []operator.Incident // open ones of this rollout
	away      outage
}

// watchView shows what is watched. show is called when something may have changed, and at least every redrawEvery.
type watchView interface {
	show(w watched, now time.Time) error
	// close ends the view and leaves what was last shown on the screen.
	close(w watched, now time.Time) error
}

// redrawEvery keeps ages and the clock of the live view fresh, and follows a resized window.
const redrawEvery = 500 * time.Millisecond

// watch shows a rollout until it ends. The first answer must come; later the control plane may be away for a while.
func (a *app) watch(ctx context.Context, id string, f watchFlags) error {
	w, err := a.look(ctx, id)
	if err != nil {
		return err
	}
	view := a.newWatchView(f)
	err = a.watchLoop(ctx, id, f, &w, view)
	if cerr := view.close(w, a.Now()); err == nil {
		err = cerr
	}
	if ctx.Err() != nil {
		return quietExit(ExitInterrupted) // who leaves a view knows that
	}
	return err
}

func (a *app) newWatchView(f watchFlags) watchView {
	switch {
	case a.json():
		return &jsonWatch{out: a.Out}
	case isTerminal(a.Out) && !f.plain && !a.quiet && a.Getenv("TERM") != "dumb":
		return a.newScreen()
	}
	return &lineWatch{a: a}
}

func (a *app) watchLoop(ctx context.Context, id string, f watchFlags, w *watched, view watchView) error {
	type answer struct {
		w   watched
		err error
	}
	asking, stop := context.WithCancel(ctx)
	answers := make(chan answer)
	done := make(chan struct{})
	go func() { // asks, so that a slow answer does not freeze the view
		defer close(done)
		for sleep(asking, f.every) == nil {
			w, err := a.look(asking, id)
			select {
			case answers <- answer{w, err}:
			case <-asking.Done():
			}
		}
	}()
	defer func() { stop(); <-done }()
	tick := time.NewTicker(redrawEvery)
	defer tick.Stop()
	for {
		if err := view.show(*w, a.Now()); err != nil {
			return err
		}
		if w.away.since.IsZero() {
			if ended, err := watchOutcome(w.rollout, f); ended {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		case got := <-answers:
			if _, err := w.away.next(got.err, a.Now(), f.patience); err != nil {
				return err
			}
			if got.err == nil {
				w.rollout, w.incidents = got.w.rollout, got.w.incidents
			}
		}
	}
}

// look asks for everything that a view shows.
func (a *app) look(ctx context.Context, id string) (watched, error) {
	r, err := a.getRollout(ctx, id)
	if err != nil {
		return watched{}, err
	}
	c, err := a.connect()
	if err != nil {
		return watched{}, err
	}
	res, err := call(ctx, a, c.fleet.ListIncidents, &kwv1.ListIncidentsRequest{})
	if err != nil {
		return watched{}, err
	}
	incidents := slices.DeleteFunc(each(res.GetIncidents(), wire.IncidentFromProto), func(i operator.Incident) bool { return i.Rollout != r.ID })
	return watched{rollout: r, incidents: incidents}, nil
}

// watchOutcome says whether watching ends here, and how.
func watchOutcome(r operator.Rollout, f watchFlags) (ended bool, err error) {
	switch {
	case r.Status == "done":
		return true, nil
	case over(r):
		return true, &fleet.Error{
			Op: "rollout " + r.ID, Err: errors.New(statusText(r)),
			Next: "kernwave rollout status " + r.ID + " --all",
		}
	case r.Status == "paused" && f.untilPaused:
		return true, quietExit(ExitPaused)
	}
	return false, nil
}
