package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	kwv1 "github.com/kernwave/kernwave/api/gen/kernwave/v1"
)

func (a *app) stopCommand() *cobra.Command {
	var why, liftWhy string
	var force bool
	cmd := &cobra.Command{
		Use: "stop", Short: "stop everything, now, until the stop is lifted",
		Long: `Stops every rollout at once: no grant is given, and no host is told that it may reboot. Hosts in
trial finish truthfully, drained ones come back into service. It works when the store is sick,
and survives a restart of the control plane, until it is lifted.`,
		Example: `  kernwave stop --why "checkout errors since 14:02"` + "\n  kernwave stop lift",
		Args:    noCommand,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			res, err := callAgain(cmd.Context(), a, c.fleet.Stop, &kwv1.StopRequest{Why: why})
			if mayRepeat(err) {
				return &advised{err, "repeat it; if the control plane stays away, no host gets a grant from it either, and grants run out by themselves"}
			}
			if err != nil {
				return err
			}
			for _, w := range res.GetWarnings() {
				a.warn(w)
			}
			if a.json() {
				return printJSON(a.Out, "stop", map[string]any{"stopped": true, "warnings": each(res.GetWarnings(), func(s string) string { return s })})
			}
			if !a.quiet {
				fmt.Fprintln(a.Out, "stopped: no host begins a reboot until the stop is lifted")
			}
			a.note("", "kernwave status; then kernwave stop lift")
			return nil
		},
	}
	whyFlag(cmd, &why, true)
	lift := &cobra.Command{
		Use: "lift", Short: "lift the stop: rollouts that are running go on", Args: arguments(),
		Long: `Lifts the stop. After a restore it is refused until every active host has told its journal, or
a person has put it into maintenance or retired it. With --force it is lifted at once: hosts
that are still waited for then count as out of service, and are granted nothing.`,
		Example: `  kernwave stop lift --why "the errors had another cause"`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			if _, err := call(cmd.Context(), a, c.fleet.LiftStop, &kwv1.LiftStopRequest{Why: liftWhy, Force: force}); err != nil {
				return err
			}
			if a.json() {
				return printJSON(a.Out, "stop", map[string]any{"stopped": false, "warnings": []string{}})
			}
			if !a.quiet {
				fmt.Fprintln(a.Out, "the stop is lifted: rollouts that are running go on, paused ones stay paused")
			}
			return nil
		},
	}
	whyFlag(lift, &liftWhy, false)
	lift.Flags().BoolVar(&force, "force", false, "also while hosts are waited for after a restore, or another control plane is obeyed")
	cmd.AddCommand(lift)
	return cmd
}

// noCommand is for a command that does something itself and has commands below it: what is typed behind it is a
// mistyped one of these.
func noCommand(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return unknownCommand(cmd, args[0])
	}
	return nil
}
