package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	kwv1 "github.com/kernwave/kernwave/api/gen/kernwave/v1"
	"github.com/kernwave/kernwave/internal/operator"
	"github.com/kernwave/kernwave/internal/wire"
)

// eventFlags choose events.
type eventFlags struct {
	rollout, host string
	limit         int32
	follow        bool
	every         time.Duration
}

// maxEvents bounds one answer of events.
const maxEvents = 10_000

func (a *app) eventsCommand() *cobra.Command {
	var f eventFlags
	cmd := &cobra.Command{
		Use: "events", Short: "read the record: who did what, when and why", Args: arguments(),
		Long: `Prints the newest events, oldest first: every decision, result and operator action. With -o json and --follow, one object a line.`,
		Example: `  kernwave events --limit 20
  kernwave events --follow --rollout r-7
  kernwave events --host web-7 -o json`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.limit < 1 || f.limit > maxEvents {
				return &usageError{fmt.Sprintf("--limit %d: from 1 to %d are allowed", f.limit, maxEvents), "use for example --limit 100"}
			}
			if f.every < minEvery {
				return &usageError{"--every " + f.every.String() + ": at least " + minEvery.String(), "use for example --every 2s"}
			}
			c, err := a.connect()
			if err != nil {
				return err
			}
			err = a.events(cmd.Context(), c, f)
			if f.follow && cmd.Context().Err() != nil {
				return quietExit(ExitInterrupted) // this is how following ends
			}
			return err
		},
	}
	cmd.Flags().BoolVarP(&f.follow, "follow", "f", false, "go on as they happen, until interrupted")
	cmd.Flags().StringVar(&f.rollout, "rollout", "", "those of one `ROLLOUT`")
	cmd.Flags().StringVar(&f.host, "host", "", "those about one `HOST`")
	cmd.Flags().Int32VarP(&f.limit, "limit", "n", 50, "how many of the newest")
	cmd.Flags().DurationVar(&f.every, "every", 2*time.Second, "how often to ask with --follow")
	a.flagNames(cmd, "rollout", a.rolloutNames)
	a.flagNames(cmd, "host", a.hostNames)
	return cmd
}

func (a *app) events(ctx context.Context, c *client, f eventFlags) error {
	req := &kwv1.ListEventsRequest{Limit: f.limit, Rollout: f.rollout, Host: f.host, Newest: true}
	res, err := call(ctx, a, c.fleet.ListEvents, req)
	if err != nil {
		return err
	}
	list := each(res.GetEvents(), wire.EventFromProto)
	if !f.follow {
		if a.json() {
			return printJSON(a.Out, "events", map[string]any{"events": list})
		}
		if len(list) == 0 {
			a.note("no events match", "")
			return nil
		}
		return a.printEvents(list)
	}
	req.Newest, req.Limit = false, maxFollow
	var away outage
	for {
		if err := a.printEvents(list); err != nil {
			return err
		}
		if n := len(list); n > 0 {
			req.After = list[n-1].Seq
		}
		if len(list) < maxFollow { // else more are waiting
			if err := sleep(ctx, f.every); err != nil {
				return err
			}
		}
		res, err = call(ctx, a, c.fleet.ListEvents, req)
		if err := away.saw(a, err, watchPatience); err != nil {
			return err
		}
		list = each(res.GetEvents(), wire.EventFromProto)
	}
}

// maxFollow is how many events one question of --follow takes.
const maxFollow = 500

func (a *app) printEvents(list []operator.Event) error {
	p := a.paletteFor(a.Out)
	for _, e := range list {
		if a.json() {
			if err := printJSONLine(a.Out, "event", e); err != nil {
				return err
			}
			continue
		}
		what := clean(aboutWhat(e) + e.What)
		if e.Why != "" {
			what += " (" + clean(e.Why) + ")"
		}
		at := timeText(e.At) + "  "
		who := strings.ReplaceAll(clean(e.Who), " ", noBreak) + noBreak + noBreak
		text := strings.Join(wrap(who+what, a.width()-len(at)), "\n"+strings.Repeat(" ", len(at)))
		text = strings.ReplaceAll(p.strong(who)+strings.TrimPrefix(text, who), noBreak, " ")
		if _, err := fmt.Fprintln(a.Out, p.faint(at)+text); err != nil {
			return err
		}
	}
	return nil
}

// noBreak is a space that wrap leaves alone.
const noBreak = "\u00a0"

// aboutWhat names the rollout and the host of an event, where its own words and who it is from do not.
func aboutWhat(e operator.Event) string {
	var about []string
	for _, name := range []string{e.Rollout, string(e.Host)} {
		if name != "" && !strings.Contains(e.What, name) && e.Who != "host "+name {
			about = append(about, name)
		}
	}
	if len(about) == 0 {
		return ""
	}
	return strings.Join(about, " ") + ": "
}

// sleep waits, or ends with the command.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
