package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	kwv1 "github.com/kernwave/kernwave/api/gen/kernwave/v1"
	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/operator"
	"github.com/kernwave/kernwave/internal/wire"
)

func (a *app) rolloutCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "rollout", Short: "plan, start, watch and steer rollouts",
		Long: `A rollout brings one kernel to one selection of hosts: first canaries of each host type, then
waves. Each host tries the kernel once before it becomes the default there. A host that falls
back, does not return or fails a check pauses the rollout, with an incident that says why.`,
	}
	cmd.AddCommand(a.rolloutPlanCommand(), a.rolloutStartCommand(), a.rolloutListCommand(), a.rolloutStatusCommand(), a.rolloutWatchCommand())
	cmd.AddCommand(a.rolloutChangeCommands()...)
	return cmd
}

func (a *app) rolloutListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "list rollouts, newest first", Args: arguments(), Example: "  kernwave rollout list",
		RunE: func(cmd *cobra.Command, _ []string) error {
			rollouts, err := a.listRollouts(cmd.Context())
			if err != nil {
				return err
			}
			if a.json() {
				return printJSON(a.Out, "rollouts", map[string]any{"rollouts": rollouts})
			}
			if len(rollouts) == 0 {
				a.note("there are no rollouts yet", "kernwave rollout plan KERNEL")
				return nil
			}
			p := a.paletteFor(a.Out)
			t := &table{head: []string{"ROLLOUT", "KERNEL", "STATUS", "STAGE", "HOSTS", "STARTED"}, shrink: []int{1, 3}}
			for _, r := range rollouts {
				committed, total := progressOf(r)
				t.add(clean(r.ID), clean(string(r.Kernel.ID)), p.state(clean(r.Status)), clean(stageName(r)),
					fmt.Sprintf("%d/%d", committed, total), ago(r.StartedAt, a.Now()))
			}
			return a.printList(t)
		},
	}
}

func (a *app) listRollouts(ctx context.Context) ([]operator.Rollout, error) {
	c, err := a.connect()
	if err != nil {
		return nil, err
	}
	res, err := call(ctx, a, c.rollouts.ListRollouts, &kwv1.ListRolloutsRequest{})
	if err != nil {
		return nil, err
	}
	return each(res.GetRollouts(), wire.RolloutFromProto), nil
}

func (a *app) getRollout(ctx context.Context, id string) (operator.Rollout, error) {
	c, err := a.connect()
	if err != nil {
		return operator.Rollout{}, err
	}
	res, err := call(ctx, a, c.rollouts.GetRollout, &kwv1.GetRolloutRequest{Id: id})
	if err != nil {
		return operator.Rollout{}, a.nearRollout(ctx, err, id)
	}
	return wire.RolloutFromProto(res), nil
}

// rolloutID is the argument, or else the rollout that one would mean: the newest.
func (a *app) rolloutID(ctx context.Context, args []string) (string, error) {
	if len(args) == 1 {
		return args[0], nil
	}
	rollouts, err := a.listRollouts(ctx)
	if err != nil {
		return "", err
	}
	if len(rollouts) == 0 {
		return "", &fleet.Error{Op: "find the newest rollout", Err: errNoRollouts, Next: "start one: kernwave rollout plan KERNEL"}
	}
	return rollouts[0].ID, nil
}

func (a *app) rolloutStatusCommand() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use: "status [ROLLOUT]", Short: "show how a rollout stands; the newest, if none is named",
		Example: "  kernwave rollout status\n  kernwave rollout status r-7 --all",
		Args:    atMostOne, ValidArgsFunction: a.completeNames(a.rolloutNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := a.rolloutID(cmd.Context(), args)
			if err != nil {
				return err
			}
			r, err := a.getRollout(cmd.Context(), id)
			if err != nil {
				return err
			}
			if a.json() {
				return printJSON(a.Out, "rollout", map[string]any{"rollout": r})
			}
			return a.printRollout(r, all)
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "list every host, not only those that something happens to")
	return cmd
}
