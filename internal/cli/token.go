package cli

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	kwv1 "github.com/kernwave/kernwave/api/gen/kernwave/v1"
	"github.com/kernwave/kernwave/internal/wire"
)

func (a *app) tokenCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "token", Short: "make tokens with which machines enrol"}
	cmd.AddCommand(a.tokenCreateCommand())
	return cmd
}

// tokenAnswer is an enrolment token, with all that a machine needs to use it.
type tokenAnswer struct {
	Token     string    `json:"token"`
	ExpiresAt time.Time `json:"expires_at"`
	Uses      int       `json:"uses"`
	Server    string    `json:"server"`
	// CASHA256 is what an agent pins at its first contact: of the CA certificate, DER.
	CASHA256 string `json:"ca_sha256"`
	// Command is to be run on the machine, as root.
	Command string `json:"command"`
}

func (a *app) tokenCreateCommand() *cobra.Command {
	var life time.Duration
	var uses int32
	var note string
	cmd := &cobra.Command{
		Use: "create", Short: "make a token, and print what to type on the machines", Args: arguments(),
		Long: `Makes a token with which machines can enrol, and prints the command to run on each. The token is
shown once. Anyone who has it can enrol a machine until it expires or is used up.`,
		Example: "  kernwave token create\n  kernwave token create --uses 40 --life 24h --note \"rack r12\"",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if life <= 0 || uses <= 0 {
				return &usageError{"--life and --uses must be more than 0", "use for example --life 1h --uses 1"}
			}
			c, err := a.connect()
			if err != nil {
				return err
			}
			req := &kwv1.CreateEnrolTokenRequest{Life: durationpb.New(life), Uses: uses, Note: note}
			res, err := call(cmd.Context(), a, c.fleet.CreateEnrolToken, req)
			if err != nil {
				return err
			}
			t := tokenAnswer{
				Token: res.GetToken(), ExpiresAt: wire.TimeFromProto(res.GetExpiresAt()), Uses: int(res.GetUses()),
				Server: c.base, CASHA256: res.GetCaSha256(), Command: enrolCommand(c.base, res.GetToken(), res.GetCaSha256()),
			}
			switch {
			case a.json():
				return printJSON(a.Out, "token", t)
			case a.quiet:
				_, err := fmt.Fprintln(a.Out, clean(t.Token))
				return err
			}
			fmt.Fprintf(a.Out, "On each machine, as root, with kernwave-agent installed (%s, until %s):\n\n  %s\n",
				count(t.Uses, "machine"), timeText(t.ExpiresAt), clean(t.Command))
			a.note("", "\"kernwave hosts\" shows the machine as soon as it has enrolled")
			return nil
		},
	}
	cmd.Flags().DurationVar(&life, "life", time.Hour, "how long it can be used")
	cmd.Flags().Int32Var(&uses, "uses", 1, "how many machines may use it")
	cmd.Flags().StringVar(&note, "note", "", "what it is for, for the record")
	return cmd
}

// enrolCommand is what to type on a machine.
func enrolCommand(server, token, pin string) string {
	return fmt.Sprintf("kernwave-agent enrol --server %s --ca-sha256 %s --token %s", server, pin, token)
}
