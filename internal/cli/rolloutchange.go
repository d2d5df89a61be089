package cli

import (
	"fmt"
	"slices"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	kwv1 "github.com/kernwave/kernwave/api/gen/kernwave/v1"
	"github.com/kernwave/kernwave/internal/operator"
	"github.com/kernwave/kernwave/internal/wire"
)

// change is one of the commands that steer a rollout.
type change struct {
	action string
	object string // HOST, TYPE, or nothing
	short  string
	long   string
	// consequence is asked about before an action that cannot be taken back. %s is the rollout.
	consequence string
	needWhy     bool
}

func (a *app) rolloutChangeCommands() []*cobra.Command {
	var cmds []*cobra.Command
	for _, c := range []change{
		{action: operator.ActionPause, short: "begin nothing more; hosts in trial finish, drained hosts come back"},
		{action: operator.ActionResume, short: "go on after a pause"},
		{
			action: operator.ActionAbort, short: "end it: trials go back, committed hosts stay",
			long:        `Ends the rollout: hosts that are drained come back into service, hosts in trial go back to their old kernel, committed ones stay on the new one.`,
			consequence: "Rollout %s will end for good: drained hosts come back into service, hosts in trial go back to their old kernel, committed ones stay on the new one.",
		},
		{
			action: operator.ActionRollback, short: "bring the previous kernel back to the committed hosts",
			long: `Ends the rollout and brings the previous kernel back to every host that had committed the new
one, under the same budgets and with a trial of its own on each.`,
			consequence: "Rollout %s will end for good, and every host that had committed its kernel will reboot into the one before.",
		},
		{action: operator.ActionRetry, object: "HOST", short: "offer the kernel to one host again"},
		{action: operator.ActionSkip, object: "HOST", short: "go on without one host", needWhy: true},
		{action: operator.ActionLeaveOut, object: "TYPE", short: "go on without one host type", needWhy: true},
	} {
		cmds = append(cmds, a.rolloutChangeCommand(c))
	}
	return cmds
}

func (a *app) rolloutChangeCommand(ch change) *cobra.Command {
	var why string
	var yes bool
	names := []string{"ROLLOUT"}
	use, example := ch.action+" ROLLOUT", "  kernwave rollout "+ch.action+" r-7"
	complete := a.completeNames(a.rolloutNames)
	switch ch.object {
	case "HOST":
		names, use, example = append(names, "HOST"), use+" HOST", example+" web-7"
		complete = a.completeNames(a.rolloutNames, a.hostNames)
	case "TYPE":
		names, use, example = append(names, "TYPE"), use+" TYPE", example+" lab-small.web.3f9a1c"
		complete = a.completeNames(a.rolloutNames, a.typeNames)
	}
	if ch.needWhy {
		example += ` --why "decommissioned next week, ticket 4711"`
	}
	cmd := &cobra.Command{
		Use: use, Short: ch.short, Long: ch.long, Example: example, Args: arguments(names...), ValidArgsFunction: complete,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			if ch.consequence != "" {
				if err := a.confirm(cmd, yes, fmt.Sprintf(ch.consequence, args[0])); err != nil {
					return err
				}
			}
			req := &kwv1.ChangeRolloutRequest{Id: args[0], Action: ch.action, Why: why}
			switch ch.object {
			case "HOST":
				req.Host = args[1]
			case "TYPE":
				req.Type = args[1]
			}
			res, err := call(cmd.Context(), a, c.rollouts.ChangeRollout, req)
			if err != nil {
				return a.nearOf(cmd, err, ch.object, args)
			}
			r := wire.RolloutFromProto(res)
			if a.json() {
				return printJSON(a.Out, "rollout", map[string]any{"rollout": r})
			}
			if a.quiet {
				return nil
			}
			fmt.Fprintf(a.Out, "rollout %s is %s\n", clean(r.ID), a.paletteFor(a.Out).like(r.Status, clean(statusText(r))))
			if r.Next != "" {
				fmt.Fprintf(a.Out, "it waits for: %s\n", clean(r.Next))
			}
			return nil
		},
	}
	whyFlag(cmd, &why, ch.needWhy)
	if ch.consequence != "" {
		confirmFlag(cmd, &yes)
	}
	return cmd
}

// nearOf suggests names for whichever of the arguments is not known.
func (a *app) nearOf(cmd *cobra.Command, err error, object string, args []string) error {
	ctx := cmd.Context()
	if connect.CodeOf(err) != connect.CodeNotFound {
		return err
	}
	if rollouts, lerr := a.rolloutNames(ctx); lerr == nil && !slices.Contains(rollouts, args[0]) {
		return a.nearRollout(ctx, err, args[0])
	}
	switch object {
	case "HOST":
		return a.nearHost(ctx, err, args[1])
	case "TYPE":
		return a.didYouMean(ctx, err, args[1], "kernwave rollout status "+args[0], a.typeNames)
	}
	return err
}
