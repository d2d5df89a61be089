package cli

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	kwv1 "github.com/kernwave/kernwave/api/gen/kernwave/v1"
	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/operator"
	"github.com/kernwave/kernwave/internal/wire"
)

const selectorHelp = "choose by id, type, model, os … or a label, as `KEY=PATTERN`"

func (a *app) hostsCommand() *cobra.Command {
	var selector string
	cmd := &cobra.Command{
		Use: "hosts", Short: "list hosts: state, kernel, type, when last heard", Args: arguments(),
		Long: `Lists hosts. STATE is the one word that matters most: what people decided (maintenance,
retired, revoked), else silent, parked, the phase of an operation that is going on, out
(not in service), or active.`,
		Example: "  kernwave hosts\n  kernwave hosts --selector workload=web,datacenter=fra\n  kernwave hosts -q | wc -l",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			res, err := call(cmd.Context(), a, c.fleet.ListHosts, &kwv1.ListHostsRequest{Selector: selector})
			if err != nil {
				return err
			}
			hosts := each(res.GetHosts(), wire.OperatorHostFromProto)
			slices.SortStableFunc(hosts, func(x, y operator.Host) int { return compareNames(x.ID, y.ID) })
			if a.json() {
				return printJSON(a.Out, "hosts", map[string]any{"hosts": hosts})
			}
			if len(hosts) == 0 {
				if selector != "" {
					a.note("no host matches "+selector, `"kernwave hosts" lists all, "kernwave host show HOST" shows labels`)
				} else {
					a.note("no hosts are enrolled yet", "kernwave token create")
				}
				return nil
			}
			return a.printList(a.hostTable(hosts))
		},
	}
	cmd.Flags().StringVarP(&selector, "selector", "l", "", selectorHelp)
	return cmd
}

func (a *app) hostTable(hosts []operator.Host) *table {
	p := a.paletteFor(a.Out)
	t := &table{head: []string{"HOST", "STATE", "KERNEL", "TYPE", "SEEN"}, shrink: []int{3, 2, 0}}
	for _, h := range hosts {
		t.add(clean(string(h.ID)), p.state(hostState(h)), orElse(clean(h.Now.Release), "-"),
			orElse(clean(string(h.Type.ID)), "-"), seenText(h, a.Now()))
	}
	return t
}

// seenText is how long ago a host was heard; the column's head says that it is an age.
func seenText(h operator.Host, now time.Time) string {
	return strings.TrimSuffix(ago(h.LastSeen, now), " ago")
}

// hostState is the one word that says most about a host.
func hostState(h operator.Host) string {
	switch {
	case h.Revoked:
		return "revoked"
	case h.Status != fleet.StatusActive && h.Status != "":
		return clean(string(h.Status))
	case h.Frozen != "":
		return "frozen"
	case h.Silent:
		return "silent"
	case h.Now.Parked != "":
		return "parked"
	case h.Operation != nil && !h.Operation.Phase.Ended():
		return clean(string(h.Operation.Phase))
	case !h.Now.InService:
		return "out"
	}
	return "active"
}

// compareNames sorts web-2 before web-10.
func compareNames[S ~string](x, y S) int {
	a, b := string(x), string(y)
	for a != "" && b != "" {
		da, db := digits(a), digits(b)
		if da > 0 && db > 0 {
			na, nb := trimZeros(a[:da]), trimZeros(b[:db])
			if c := cmp.Or(cmp.Compare(len(na), len(nb)), cmp.Compare(na, nb)); c != 0 {
				return c
			}
			a, b = a[da:], b[db:]
			continue
		}
		if a[0] != b[0] {
			return cmp.Compare(a[0], b[0])
		}
		a, b = a[1:], b[1:]
	}
	return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(string(x), string(y)))
}

func digits(s string) int {
	n := 0
	for n < len(s) && s[n] >= '0' && s[n] <= '9' {
		n++
	}
	return n
}

func trimZeros(s string) string {
	for len(s) > 1 && s[0] == '0' {
		s = s[1:]
	}
	return s
}
