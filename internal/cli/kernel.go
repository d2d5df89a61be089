package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	kwv1 "github.com/kernwave/kernwave/api/gen/kernwave/v1"
	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/operator"
	"github.com/kernwave/kernwave/internal/wire"
)

func (a *app) kernelCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "kernel", Short: "add and list the kernels that can be rolled"}
	cmd.AddCommand(a.kernelAddCommand(), a.kernelListCommand())
	return cmd
}

func (a *app) kernelAddCommand() *cobra.Command {
	var name, release string
	cmd := &cobra.Command{
		Use: "add FILE.deb…", Short: "upload a kernel's packages, so that it can be rolled",
		Long: `Uploads the packages of one kernel into the control plane's own store, because archives
drop superseded versions in the middle of a rollout, and records the kernel. One of the
packages must hold the kernel image; its name says the "uname -r" that a host must show.
Give all packages that the kernel needs and that hosts do not have, in the order in which
they shall be installed. Adding the same again changes nothing.`,
		Example: `  kernwave kernel add linux-image-6.12.117+deb12-cloud-amd64_6.12.117-1_amd64.deb
  kernwave kernel add --name bpf-fix linux-modules-*.deb linux-image-*.deb`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return &usageError{"kernel add needs at least one .deb file", "write it like: " + usageLine(cmd)}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, files []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			k, err := readKernel(cmd.Context(), files, release)
			if err != nil {
				return err
			}
			k.ID = fleet.KernelID(orElse(name, k.Release))
			for i, p := range k.Packages {
				if err := a.upload(cmd.Context(), c, files[i], p); err != nil {
					return err
				}
			}
			added, err := call(cmd.Context(), a, c.kernels.AddKernel, &kwv1.AddKernelRequest{Kernel: wire.KernelToProto(k)})
			if err != nil {
				return err
			}
			k = wire.KernelFromProto(added)
			if a.json() {
				return printJSON(a.Out, "kernel", map[string]any{"kernel": k})
			}
			if a.quiet {
				_, err := fmt.Fprintln(a.Out, k.ID)
				return err
			}
			fmt.Fprintf(a.Out, "kernel %s: %s, version %s, for %s %s\n",
				clean(string(k.ID)), count(len(k.Packages), "package"), clean(k.Version), clean(k.Family), clean(flavourText(k)))
			if string(k.ID) != k.Release {
				fmt.Fprintf(a.Out, "hosts will show %s\n", clean(k.Release))
			}
			a.note("", fmt.Sprintf("see what a rollout would do: kernwave rollout plan %s", k.ID))
			return nil
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "what to call it; else its release")
	cmd.Flags().StringVar(&release, "release", "", "the uname -r that you expect: refused if the packages hold another")
	cmd.ValidArgsFunction = func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return []string{"deb"}, cobra.ShellCompDirectiveFilterFileExt
	}
	return cmd
}

func flavourText(k fleet.Kernel) string {
	if k.Flavour == "" {
		return k.Arch + ", no flavour"
	}
	return k.Flavour
}

func (a *app) kernelListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "list the kernels, and for which host types they are approved", Args: arguments(),
		Example: "  kernwave kernel list\n  kernwave kernel list -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			res, err := call(cmd.Context(), a, c.kernels.ListKernels, &kwv1.ListKernelsRequest{})
			if err != nil {
				return err
			}
			kernels, approvals := each(res.GetKernels(), wire.KernelFromProto), each(res.GetApprovals(), wire.ApprovalFromProto)
			if a.json() {
				return printJSON(a.Out, "kernels", map[string]any{"kernels": kernels, "approvals": approvals})
			}
			if len(kernels) == 0 {
				a.note("there are no kernels yet", "kernwave kernel add FILE.deb…")
				return nil
			}
			return a.printList(kernelTable(kernels, approvals, a))
		},
	}
}

func kernelTable(kernels []fleet.Kernel, approvals []operator.Approval, a *app) *table {
	t := &table{head: []string{"KERNEL", "VERSION", "SIZE", "AGE", "APPROVED FOR"}, shrink: []int{1, 4, 0}}
	for _, k := range kernels {
		var types []string
		for _, ap := range approvals {
			if ap.Checksum == k.Checksum() && (ap.Until.IsZero() || ap.Until.After(a.Now())) {
				types = append(types, string(ap.Type))
			}
		}
		var size int64
		for _, p := range k.Packages {
			size += p.Size
		}
		what := sizeText(size)
		if len(k.Packages) == 0 {
			what = "-" // a kernel that hosts had before: it can be gone back to, not rolled
		}
		approved := "-"
		switch {
		case len(types) == 1:
			approved = clean(types[0])
		case len(types) > 1:
			approved = count(len(types), "type")
		}
		t.add(clean(string(k.ID)), clean(k.Version), what, shortDuration(a.Now().Sub(k.AddedAt)), approved)
	}
	return t
}

// each converts a list. The result is never nil: an empty list is [] in JSON.
func each[A, B any](in []A, f func(A) B) []B {
	out := make([]B, 0, len(in))
	for _, v := range in {
		out = append(out, f(v))
	}
	return out
}

func joined[S ~string](list []S, sep string) string {
	return strings.Join(each(list, func(s S) string { return clean(string(s)) }), sep)
}
