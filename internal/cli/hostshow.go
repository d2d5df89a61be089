package cli

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	kwv1 "github.com/kernwave/kernwave/api/gen/kernwave/v1"
	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/operator"
	"github.com/kernwave/kernwave/internal/wire"
)

func (a *app) hostShowCommand() *cobra.Command {
	return &cobra.Command{
		Use: "show HOST", Short: "show what is known about one host, and its operations",
		Example: "  kernwave host show web-7\n  kernwave host show web-7 -o json",
		Args:    arguments("HOST"), ValidArgsFunction: a.completeNames(a.hostNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			res, err := call(cmd.Context(), a, c.fleet.GetHost, &kwv1.GetHostRequest{Id: args[0]})
			if err != nil {
				return a.nearHost(cmd.Context(), err, args[0])
			}
			h, ops := wire.OperatorHostFromProto(res.GetHost()), each(res.GetOperations(), wire.OperationFromProto)
			if a.json() {
				return printJSON(a.Out, "host", map[string]any{"host": h, "operations": ops})
			}
			return a.printHost(h, ops)
		},
	}
}

func (a *app) printHost(h operator.Host, ops []fleet.Operation) error {
	p, g := a.paletteFor(a.Out), a.glyphs()
	f := h.Facts
	s := &sheet{}
	s.line("host", p.strong(clean(string(h.ID))))
	s.line("state", p.state(hostState(h)), clean(h.StatusWhy))
	if h.Frozen != "" {
		s.line("frozen", p.bad("it "+frozenText(h)), "since "+timeText(h.FrozenAt))
		s.line("next", fmt.Sprintf("kernwave token create, then on the copy: kernwave-agent enrol --anew --name NEW-NAME; gone for good: kernwave host unfreeze %s --why …", clean(string(h.ID))))
	}
	if h.Copied != "" {
		s.line("copied", p.warn(clean(h.Copied)))
	}
	if !h.Now.InService && h.Now.NotInServiceWhy != "" {
		s.line("out because", clean(h.Now.NotInServiceWhy))
	}
	s.line("parked", clean(h.Now.Parked))
	s.line("failed units", joined(h.Now.FailedUnits, ", "))
	s.line("last heard", ago(h.LastSeen, a.Now()))
	s.line("enrolled", timeText(h.EnrolledAt))
	s.gap()
	s.line("kernel", clean(h.Now.Release), upText(h))
	if f.Boot.Default != h.Now.Release {
		s.line("next boot", clean(orElse(f.Boot.Default, "cannot tell")))
	}
	s.line("installed", joined(f.Boot.Installed, ", "))
	s.line("boot loader", clean(strings.TrimSpace(f.Boot.Loader+" "+f.Boot.Firmware)), oneShotText(f.Boot))
	s.gap()
	s.line("type", clean(string(h.Type.ID)))
	s.line("labels", labelsText(f.Labels))
	s.line("hardware", clean(strings.TrimSpace(f.Hardware.Vendor+" "+f.Hardware.Model)), clean(f.Hardware.Serial))
	if f.CPU.Cores > 0 {
		s.line("cpu", clean(f.CPU.Model), count(f.CPU.Cores, "core")+", "+memoryText(f.MemoryBytes)+" memory")
	}
	for _, d := range f.Disks {
		s.line("disk "+clean(d.Name), clean(orElse(d.Model, "-")), clean(joinNonEmpty(d.Driver, d.Firmware))+", "+sizeText(int64(d.SizeBytes)))
	}
	for _, n := range f.NICs {
		s.line("nic "+clean(n.Name), clean(joinNonEmpty(n.Driver, n.Firmware)), clean(n.MAC))
	}
	s.line("os", clean(joinNonEmpty(f.OS.ID, f.OS.Version, f.OS.Codename)), clean(f.Arch))
	s.line("agent", clean(f.AgentVersion))
	if err := s.print(a.Out, p, g, a.width()); err != nil {
		return err
	}
	if len(ops) == 0 {
		return nil
	}
	fmt.Fprintln(a.Out)
	t := &table{head: []string{"OPERATION", "KERNEL", "PHASE", "SINCE", "OWNER"}, shrink: []int{1, 0}}
	for _, o := range ops {
		t.add(clean(string(o.ID)), clean(string(o.Kernel)), p.state(clean(string(o.Phase))), ago(o.PhaseSince, a.Now()), clean(o.Owner))
	}
	if err := t.print(a.Out, p, g, a.width()); err != nil {
		return err
	}
	if pr := ops[0].Problem; pr != nil {
		fmt.Fprintln(a.Out)
		a.printProblem(*pr)
	}
	return nil
}

// printProblem shows why the newest operation did not end well.
func (a *app) printProblem(pr fleet.Problem) {
	p := a.paletteFor(a.Out)
	fmt.Fprintf(a.Out, "%s %s\n", p.bad("problem:"), clean(pr.What))
	if pr.Expected != "" {
		fmt.Fprintf(a.Out, "expected: %s\n", clean(pr.Expected))
	}
	a.printEvidence("", pr.Evidence, pr.NoEvidence, 0)
	if pr.Next != "" {
		fmt.Fprintf(a.Out, "%s %s\n", p.good("next:"), clean(pr.Next))
	}
}

func upText(h operator.Host) string {
	if h.Now.Uptime <= 0 {
		return ""
	}
	return "up " + shortDuration(h.Now.Uptime)
}

func oneShotText(b fleet.Boot) string {
	if b.Loader == "" {
		return ""
	}
	return clean("one-shot boot " + orElse(string(b.OneShot), "unknown") + orElse(prefixed(": ", b.OneShotWhy), ""))
}

func prefixed(prefix, s string) string {
	if s == "" {
		return ""
	}
	return prefix + s
}

func labelsText(l fleet.Labels) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(l)) {
		parts = append(parts, clean(k+"="+l[k]))
	}
	return strings.Join(parts, " ")
}

func joinNonEmpty(parts ...string) string {
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), " ")
}

// frozenText is why nothing is begun on a host.
func frozenText(h operator.Host) string {
	return "counts as out, nothing is begun on it: " + clean(h.Frozen)
}
