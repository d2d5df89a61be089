package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	kwv1 "github.com/kernwave/kernwave/api/gen/kernwave/v1"
	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/wire"
)

func (a *app) hostCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "host", Short: "show one host, take it out or in, retire or revoke it"}
	cmd.AddCommand(
		a.hostShowCommand(),
		a.hostStatusCommand(hostStatus{
			name: "maintenance", status: fleet.StatusMaintenance, needWhy: true,
			short: "take a host: it is not touched, and not counted",
			done:  "is in maintenance: it is not touched and not counted",
			next:  "kernwave host activate %s, when it is well again",
		}),
		a.hostStatusCommand(hostStatus{
			name: "activate", status: fleet.StatusActive,
			short: "give a host back after maintenance",
			done:  "is active: it takes part again",
		}),
		a.hostStatusCommand(hostStatus{
			name: "retire", status: fleet.StatusRetired, needWhy: true, dangerous: true,
			short: "a host is gone for good: it is not counted and may not check in",
			done:  "is retired",
		}),
		a.hostRevokeCommand(),
		a.hostUnfreezeCommand(),
	)
	return cmd
}

// hostStatus is one of the commands that record what a person decided about a host.
type hostStatus struct {
	name, short, done, next string
	status                  fleet.Status
	needWhy, dangerous      bool
}

func (a *app) hostStatusCommand(s hostStatus) *cobra.Command {
	var why string
	var yes bool
	example := "  kernwave host " + s.name + " web-7"
	if s.needWhy {
		example += ` --why "disk is being replaced, ticket 4711"`
	}
	cmd := &cobra.Command{
		Use: s.name + " HOST", Short: s.short, Args: arguments("HOST"), Example: example,
		ValidArgsFunction: a.completeNames(a.hostNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			if s.dangerous {
				if err := a.confirm(cmd, yes, fmt.Sprintf("%s will be retired: it can no longer check in, and no longer counts as out of service.", args[0])); err != nil {
					return err
				}
			}
			req := &kwv1.SetHostStatusRequest{Id: args[0], Status: string(s.status), Why: why}
			res, err := call(cmd.Context(), a, c.fleet.SetHostStatus, req)
			if err != nil {
				return a.nearHost(cmd.Context(), err, args[0])
			}
			return a.hostChanged(res, s.done, s.next)
		},
	}
	whyFlag(cmd, &why, s.needWhy)
	if s.dangerous {
		confirmFlag(cmd, &yes)
	}
	return cmd
}

func (a *app) hostRevokeCommand() *cobra.Command {
	var why string
	var yes bool
	cmd := &cobra.Command{
		Use: "revoke HOST", Short: "revoke a host's certificates: nothing that holds its key gets in",
		Long: `Revokes every certificate of a host: after a theft, or when its disk left the house. The host
itself stays known, and counts as before, until it is retired; to let the machine in again,
enrol it with a new token.`,
		Example: `  kernwave host revoke web-7 --why "disk stolen"`,
		Args:    arguments("HOST"), ValidArgsFunction: a.completeNames(a.hostNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			if err := a.confirm(cmd, yes, fmt.Sprintf("%s can no longer reach the control plane, until it is enrolled again.", args[0])); err != nil {
				return err
			}
			res, err := call(cmd.Context(), a, c.fleet.RevokeHost, &kwv1.RevokeHostRequest{Id: args[0], Why: why})
			if err != nil {
				return a.nearHost(cmd.Context(), err, args[0])
			}
			return a.hostChanged(res, "is revoked: its certificates are worth nothing", `kernwave token create, to enrol it again; or kernwave host retire %s`)
		},
	}
	whyFlag(cmd, &why, true)
	confirmFlag(cmd, &yes)
	return cmd
}

func (a *app) hostUnfreezeCommand() *cobra.Command {
	var why string
	cmd := &cobra.Command{
		Use: "unfreeze HOST", Short: "only one machine uses a host's certificate again",
		Long: `A host is frozen when two machines are heard under its certificate, as when an image of its disk
runs a second time. Nothing is begun on either, and it counts as out of service. Enrolling one of
them anew (kernwave-agent enrol --anew) ends that by itself; this command is for when the other
machine is gone for good. If it is not, both are noticed again.`,
		Example: `  kernwave host unfreeze web-7 --why "the copy was deleted"`,
		Args:    arguments("HOST"), ValidArgsFunction: a.completeNames(a.hostNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			res, err := call(cmd.Context(), a, c.fleet.UnfreezeHost, &kwv1.UnfreezeHostRequest{Id: args[0], Why: why})
			if err != nil {
				return a.nearHost(cmd.Context(), err, args[0])
			}
			return a.hostChanged(res, "is one machine again: it takes part", "")
		},
	}
	whyFlag(cmd, &why, true)
	return cmd
}

// hostChanged prints what became of a host; next may name the host once.
func (a *app) hostChanged(res *kwv1.Host, done, next string) error {
	h := wire.OperatorHostFromProto(res)
	if a.json() {
		return printJSON(a.Out, "host", map[string]any{"host": h})
	}
	if !a.quiet {
		fmt.Fprintf(a.Out, "%s %s\n", clean(string(h.ID)), done)
	}
	if next != "" {
		a.note("", fmt.Sprintf(next, h.ID))
	}
	return nil
}

func (a *app) whyCommand() *cobra.Command {
	return &cobra.Command{
		Use: "why HOST", Short: "why a host is not updated: the binding constraint, in one sentence",
		Example: "  kernwave why web-7",
		Args:    arguments("HOST"), ValidArgsFunction: a.completeNames(a.hostNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			res, err := call(cmd.Context(), a, c.fleet.WhyHost, &kwv1.WhyHostRequest{Id: args[0]})
			if err != nil {
				return a.nearHost(cmd.Context(), err, args[0])
			}
			w := wire.WhyFromProto(res)
			if a.json() {
				return printJSON(a.Out, "why", w)
			}
			fmt.Fprintf(a.Out, "%s: %s\n", clean(string(w.Host)), clean(w.Why))
			if w.Next != "" && !a.quiet {
				fmt.Fprintf(a.Out, "next: %s\n", clean(w.Next))
			}
			return nil
		},
	}
}
