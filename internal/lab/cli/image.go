package cli

import (
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/kernwave/kernwave/internal/lab"
)

func (a *app) packages() *cobra.Command {
	return &cobra.Command{
		Use:   "packages",
		Short: "Print the Debian packages that the lab needs, one per line",
		Example: `  kernwave-lab packages
  apt-get install --no-install-recommends $(kernwave-lab packages)`,
		Args: exactly(),
		RunE: func(*cobra.Command, []string) error {
			if a.output == "json" {
				return a.json("packages", lab.Packages())
			}
			for _, p := range lab.Packages() {
				fmt.Fprintln(a.out, p)
			}
			return nil
		},
	}
}

func (a *app) prepare() *cobra.Command {
	return &cobra.Command{
		Use:   "prepare",
		Short: "Build the guest image and fetch kernels, if they are not in the cache, and print the kernels",
		Example: `  kernwave-lab prepare
  kernwave-lab prepare -o json`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			im, err := lab.Prepare(cmd.Context(), lab.Config{CacheDir: a.cache, Progress: a.progress()})
			if err != nil {
				return err
			}
			if a.output == "json" {
				return a.json("image", map[string]any{"suite": im.Suite(), "accel": im.Accel(), "kernels": im.Kernels()})
			}
			w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "KERNEL\tVERSION\tUSE")
			for i, k := range im.Kernels() {
				fmt.Fprintf(w, "%s\t%s\t%s\n", k.Release, k.Version, map[bool]string{true: "base", false: "update"}[i == 0])
			}
			return w.Flush()
		},
	}
}
