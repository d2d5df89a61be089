package cli

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	kwv1 "github.com/kernwave/kernwave/api/gen/kernwave/v1"
	"github.com/kernwave/kernwave/internal/operator"
	"github.com/kernwave/kernwave/internal/wire"
)

func (a *app) budgetCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "budget", Short: "how many hosts of a group may be out of service at once",
		Long: `A budget is the most hosts that may be out of service at once in each group of hosts that share
a host type, or the value of a label. Hosts that are down, silent or failed use it up too.`,
	}
	cmd.AddCommand(a.budgetListCommand(), a.budgetSetCommand())
	return cmd
}

func (a *app) budgetListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "list the budgets, and who uses them now", Args: arguments(), Example: "  kernwave budget list",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			res, err := call(cmd.Context(), a, c.fleet.ListBudgets, &kwv1.ListBudgetsRequest{})
			if err != nil {
				return err
			}
			budgets, use := each(res.GetBudgets(), wire.BudgetFromProto), each(res.GetUse(), wire.GroupUseFromProto)
			if a.json() {
				return printJSON(a.Out, "budgets", map[string]any{"budgets": budgets, "use": use})
			}
			t := &table{head: []string{"BUDGET BY", "LIMIT"}}
			for _, b := range budgets {
				t.add(clean(b.By), fmt.Sprint(b.Limit))
			}
			if err := a.printList(t); err != nil || a.quiet {
				return err
			}
			if len(use) == 0 {
				a.note("there are no hosts to count", "")
				return nil
			}
			fmt.Fprintln(a.Out)
			return a.printList(a.useTable(use))
		},
	}
}

func (a *app) useTable(use []operator.GroupUse) *table {
	p := a.paletteFor(a.Out)
	t := &table{head: []string{"GROUP", "OUT", "WHO"}, shrink: []int{0}, prose: true}
	for _, u := range use {
		out := fmt.Sprintf("%d of %d", len(u.Out), u.Limit)
		if len(u.Out) >= u.Limit {
			out = p.warn(out)
		}
		who := "-"
		if len(u.Out) > 0 {
			who = strings.Join(each(u.Out, func(o operator.Out) string { return clean(string(o.Host)) + " (" + clean(o.Why) + ")" }), ", ")
		}
		t.add(clean(u.Group), out, who)
	}
	return t
}

func (a *app) budgetSetCommand() *cobra.Command {
	return &cobra.Command{
		Use: "set type|label:KEY LIMIT", Short: "set a budget; limit 0 removes that of a label",
		Example: "  kernwave budget set type 2\n  kernwave budget set label:rack 1\n  kernwave budget set label:rack 0",
		Args:    arguments("type|label:KEY", "LIMIT"),
		ValidArgsFunction: a.completeNames(
			fixed(operator.BudgetByType, operator.BudgetByLabel+"datacenter", operator.BudgetByLabel+"rack", operator.BudgetByLabel+"workload")),
		RunE: func(cmd *cobra.Command, args []string) error {
			b, err := parseBudget(args[0], args[1])
			if err != nil {
				return err
			}
			c, err := a.connect()
			if err != nil {
				return err
			}
			res, err := call(cmd.Context(), a, c.fleet.SetBudget, &kwv1.SetBudgetRequest{Budget: wire.BudgetToProto(b)})
			if err != nil {
				return err
			}
			b = wire.BudgetFromProto(res)
			switch {
			case a.json():
				return printJSON(a.Out, "budget", map[string]any{"budget": b})
			case a.quiet:
			case b.Limit == 0:
				fmt.Fprintf(a.Out, "the budget by %s is removed\n", clean(b.By))
			default:
				fmt.Fprintf(a.Out, "at most %s of each %s may be out of service at once\n", count(b.Limit, "host"), groupWord(b.By))
			}
			return nil
		},
	}
}

func groupWord(by string) string {
	if label, ok := strings.CutPrefix(by, operator.BudgetByLabel); ok {
		return clean(label)
	}
	return "host type"
}

func parseBudget(by, limit string) (operator.Budget, error) {
	label, isLabel := strings.CutPrefix(by, operator.BudgetByLabel)
	if by != operator.BudgetByType && (!isLabel || label == "") {
		return operator.Budget{}, &usageError{fmt.Sprintf("%q is no group of hosts", by), "use type, or label:KEY such as label:rack"}
	}
	n, err := strconv.Atoi(limit)
	if err != nil || n < 0 {
		return operator.Budget{}, &usageError{fmt.Sprintf("limit %q is no number of hosts", limit), "use 1 or more; 0 removes the budget of a label"}
	}
	if n > math.MaxInt32 { // more than the wire holds: another number would arrive
		return operator.Budget{}, &usageError{fmt.Sprintf("limit %s is too large", limit), "use at most 100000 hosts"}
	}
	if n == 0 && !isLabel {
		return operator.Budget{}, &usageError{"the budget by type always exists: its limit is at least 1", "use \"kernwave stop\" to let no host out of service"}
	}
	return operator.Budget{By: by, Limit: n}, nil
}
