package cli

import (
	"fmt"
	"net"
	"net/url"
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
	// Script is to be run on each machine, as root.
	Script string `json:"script"`
}

func (a *app) tokenCreateCommand() *cobra.Command {
	var life time.Duration
	var uses int32
	var note, reachedAs string
	cmd := &cobra.Command{
		Use: "create", Short: "make a token, and print what to type on the machines", Args: arguments(),
		Long: `Makes a token with which machines can enrol, and prints the lines to run on each. The token is
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
			base := c.base
			if reachedAs != "" {
				if base, err = serverURL(setting{reachedAs, "--reached-as"}); err != nil {
					return err
				}
			}
			req := &kwv1.CreateEnrolTokenRequest{Life: durationpb.New(life), Uses: uses, Note: note}
			res, err := call(cmd.Context(), a, c.fleet.CreateEnrolToken, req)
			if err != nil {
				return err
			}
			t := tokenAnswer{
				Token: res.GetToken(), ExpiresAt: wire.TimeFromProto(res.GetExpiresAt()), Uses: int(res.GetUses()),
				Server: base, CASHA256: res.GetCaSha256(), Script: enrolScript(base, res.GetToken(), res.GetCaSha256()),
			}
			switch {
			case a.json():
				return printJSON(a.Out, "token", t)
			case a.quiet:
				_, err := fmt.Fprintln(a.Out, clean(t.Token))
				return err
			}
			fmt.Fprintf(a.Out, "As root, on %s with kernwave-agent, until %s:\n\n", machines(t.Uses), timeText(t.ExpiresAt))
			for _, line := range cleanLines(t.Script) {
				fmt.Fprintln(a.Out, line)
			}
			fmt.Fprintln(a.Out)
			if isLoopback(base) && reachedAs == "" {
				a.note("other machines cannot reach "+base, "give the address that they can reach, with --reached-as, or put it into agent.yaml there")
			}
			a.note("", `"kernwave hosts" shows a machine as soon as it has enrolled`)
			return nil
		},
	}
	cmd.Flags().StringVar(&reachedAs, "reached-as", "", "`URL` by which the machines reach the control plane, if it is not yours")
	cmd.Flags().DurationVar(&life, "life", time.Hour, "how long it can be used")
	cmd.Flags().Int32Var(&uses, "uses", 1, "how many machines may use it")
	cmd.Flags().StringVar(&note, "note", "", "what it is for, for the record")
	return cmd
}

// enrolScript is what to run on a machine: the agent's settings, the token in a file of its own, and the first contact,
// which says what is wrong if something is.
func enrolScript(server, token, pin string) string {
	return fmt.Sprintf(`mkdir -p /etc/kernwave
(umask 077 && echo '%s' > /etc/kernwave/token)
cat > /etc/kernwave/agent.yaml <<'END'
server: %s
ca_sha256: %s
# labels: {workload: web, datacenter: fra, rack: r12}
END
kernwave-agent enrol && kernwave-agent install && systemctl restart kernwave-agent
`, token, server, pin)
}

func machines(n int) string {
	if n == 1 {
		return "one machine"
	}
	return fmt.Sprintf("%d machines", n)
}

// isLoopback says whether only this machine itself can use the address.
func isLoopback(base string) bool {
	u, err := url.Parse(base)
	if err != nil {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
}
