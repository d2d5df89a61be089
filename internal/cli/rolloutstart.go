package cli

import (
	"crypto/rand"
	"fmt"

	"github.com/spf13/cobra"

	kwv1 "github.com/kernwave/kernwave/api/gen/kernwave/v1"
	"github.com/kernwave/kernwave/internal/wire"
)

func (a *app) rolloutPlanCommand() *cobra.Command {
	var flags specFlags
	var all bool
	cmd := &cobra.Command{
		Use: "plan KERNEL", Short: "show what a rollout would do; nothing is stored",
		Example: `  kernwave rollout plan 6.12.117+deb12-cloud-amd64
  kernwave rollout plan 6.12.117+deb12-cloud-amd64 --selector workload=web --waves 10,100 --soak 10m`,
		Args: arguments("KERNEL"), ValidArgsFunction: a.completeNames(a.kernelNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			spec, err := flags.spec(cmd, args[0])
			if err != nil {
				return err
			}
			c, err := a.connect()
			if err != nil {
				return err
			}
			res, err := call(cmd.Context(), a, c.rollouts.PlanRollout, &kwv1.PlanRolloutRequest{Spec: wire.RolloutSpecToProto(spec)})
			if err != nil {
				return a.nearKernel(cmd.Context(), err, args[0])
			}
			r := wire.RolloutFromProto(res)
			if a.json() {
				return printJSON(a.Out, "plan", map[string]any{"rollout": r})
			}
			if err := a.printPlan(r, all); err != nil {
				return err
			}
			a.note("", "start it: kernwave rollout start, with the same arguments")
			return nil
		},
	}
	flags.add(cmd)
	cmd.Flags().BoolVar(&all, "all", false, "list every host that cannot take part")
	return cmd
}

func (a *app) rolloutStartCommand() *cobra.Command {
	var flags specFlags
	var watch bool
	var key string
	cmd := &cobra.Command{
		Use: "start KERNEL", Short: "start a rollout",
		Long: `Starts a rollout and returns; the control plane carries it on. The request is repeated while the
control plane does not answer, under one key, so that it starts one rollout only.`,
		Example: `  kernwave rollout start 6.12.117+deb12-cloud-amd64 --watch
  kernwave rollout start 6.12.117+deb12-cloud-amd64 --selector workload=web --note "CVE-2026-1234"`,
		Args: arguments("KERNEL"), ValidArgsFunction: a.completeNames(a.kernelNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			spec, err := flags.spec(cmd, args[0])
			if err != nil {
				return err
			}
			c, err := a.connect()
			if err != nil {
				return err
			}
			if key == "" {
				key = rand.Text()
			}
			req := &kwv1.StartRolloutRequest{Spec: wire.RolloutSpecToProto(spec), IdempotencyKey: key}
			res, err := callAgain(cmd.Context(), a, c.rollouts.StartRollout, req)
			if mayRepeat(err) {
				return &advised{err, "it may have started all the same: look with \"kernwave rollout list\", or repeat the command with --idempotency-key " + key}
			}
			if err != nil {
				return a.nearKernel(cmd.Context(), err, args[0])
			}
			r := wire.RolloutFromProto(res)
			if watch {
				return a.watch(cmd.Context(), r.ID, watchFlags{every: watchEvery, patience: watchPatience})
			}
			if a.json() {
				return printJSON(a.Out, "rollout", map[string]any{"rollout": r})
			}
			if a.quiet {
				_, err := fmt.Fprintln(a.Out, r.ID)
				return err
			}
			_, total := progressOf(r)
			fmt.Fprintf(a.Out, "rollout %s started: kernel %s to %s in %s\n",
				clean(r.ID), clean(string(r.Kernel.ID)), count(total, "host"), count(stagesWithHosts(r), "stage"))
			a.note("", "kernwave rollout watch "+r.ID)
			return nil
		},
	}
	flags.add(cmd)
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "watch it until it ends")
	cmd.Flags().StringVar(&key, "idempotency-key", "", "repeat an earlier start under its `KEY`")
	return cmd
}
