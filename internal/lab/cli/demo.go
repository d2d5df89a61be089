package cli

import (
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/kernwave/kernwave/internal/lab/demo"
)

func (a *app) demo() *cobra.Command {
	var bin, dir string
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show a kernel update from end to end, and one that stops itself",
		Long: `Starts a control plane and four virtual machines of two host types, rolls a real kernel over
them in waves, then one that panics on one of the types. It shows the commands that an operator
would type, ends by itself, and leaves nothing running.`,
		Example: "  kernwave-lab demo",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if bin == "" {
				self, err := os.Executable()
				if err != nil {
					return err
				}
				bin = filepath.Dir(self)
			}
			if dir == "" {
				tmp, err := os.MkdirTemp("", "kernwave-demo-*")
				if err != nil {
					return err
				}
				dir = tmp
			}
			return demo.Run(cmd.Context(), demo.Config{Bin: bin, Dir: dir, Out: os.Stdout})
		},
	}
	cmd.Flags().StringVar(&bin, "bin", "", "`DIR`ectory with kernwave and kernwave-agent (default: that of this program)")
	cmd.Flags().StringVar(&dir, "demo-dir", "", "where logs go (default: a new directory under the temporary one)")
	return cmd
}
