package cli

import (
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/kernwave/kernwave/internal/backup"
)

func (a *app) backupCommand() *cobra.Command {
	var dir string
	var without bool
	cmd := &cobra.Command{
		Use: "backup --data DIR FILE", Short: "make one file of a control plane's data, while it runs",
		Long: `Writes everything that the control plane in DIR needs to be put back into FILE: the database as
it is at one instant, the CA with its key, the first operator's token, and the kernels'
packages. It runs on the control plane's machine, as the server's user or as root, whether the
server runs or not, and takes nothing from it but disk reads. Packages are most of the size;
without them the control plane that is put back wants them uploaded again before it can roll
those kernels.

FILE appears whole or not at all, replaces what had its name, is synced, and is readable by its
owner only: whoever has it can let hosts into the fleet. It is a tar archive with checksums of
everything in it; "kernwave backup check FILE" compares them. It is not sent over the network:
it holds the CA's key, which never leaves the machine by itself.`,
		Example: `  kernwave backup --data /var/lib/kernwave /backup/kernwave.backup
  kernwave backup --data /var/lib/kernwave --without-packages "/backup/kernwave-$(date +%F).backup"
  kernwave backup check /backup/kernwave.backup`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 && dir == "" {
				return noCommand(cmd, args)
			}
			return arguments("FILE")(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if dir == "" {
				return &usageError{"--data must be given", "for example: kernwave backup --data /var/lib/kernwave kernwave.backup"}
			}
			m, size, err := backup.Write(cmd.Context(), backup.Source{Dir: dir, Packages: !without, By: programAndMachine(), Now: a.Now()}, args[0])
			if err != nil {
				return err
			}
			if a.json() {
				return printJSON(a.Out, "backup", backupAnswer{args[0], m, size})
			}
			if !a.quiet {
				packages := count(size.Packages, "package")
				if without {
					packages = "without packages"
				}
				fmt.Fprintf(a.Out, "%s: %s, %s, %s, incarnation %d, term %d\n", clean(args[0]), sizeText(size.Bytes), count(m.Hosts, "host"), packages, m.Incarnation, m.Term)
			}
			a.note("", "keep it where only you can read it: it holds the key with which hosts are let in")
			return nil
		},
	}
	cmd.Flags().StringVar(&dir, "data", "", "data `DIR`ectory of the control plane (required)")
	cmd.Flags().BoolVar(&without, "without-packages", false, "leave the kernels' packages out")
	_ = cmd.MarkFlagDirname("data")
	cmd.AddCommand(a.backupCheckCommand())
	return cmd
}

// backupAnswer is a backup, as JSON.
type backupAnswer struct {
	File string `json:"file"`
	backup.Manifest
	backup.Size
}

func (a *app) backupCheckCommand() *cobra.Command {
	return &cobra.Command{
		Use: "check FILE", Short: "say what a backup holds, and whether it is whole", Args: arguments("FILE"),
		Example: "  kernwave backup check /backup/kernwave.backup",
		RunE: func(_ *cobra.Command, args []string) error {
			m, err := backup.Check(args[0])
			if err != nil {
				return err
			}
			if a.json() {
				return printJSON(a.Out, "backup_check", struct {
					File string `json:"file"`
					backup.Manifest
					Age time.Duration `json:"age_ns"`
				}{args[0], m, a.Now().Sub(m.MadeAt)})
			}
			s := &sheet{}
			s.line("file", clean(args[0])+" is whole")
			a.describeBackup(s, m)
			return s.print(a.Out, a.paletteFor(a.Out), a.glyphs(), a.width())
		},
	}
}

// describeBackup says what a person wants to know before it is put back.
func (a *app) describeBackup(s *sheet, m backup.Manifest) {
	s.line("made", timeText(m.MadeAt)+", "+ago(m.MadeAt, a.Now()))
	s.line("by", clean(m.MadeBy))
	s.line("holds", fmt.Sprintf("%s, %s open", count(m.Hosts, "host"), count(m.OpenRollouts, "rollout")))
	packages := "in it"
	if !m.Packages {
		packages = "not in it"
	}
	s.line("packages", packages)
	s.line("term", fmt.Sprintf("%d of incarnation %d", m.Term, m.Incarnation))
}

// programAndMachine is who makes a backup, for people.
func programAndMachine() string {
	host, err := os.Hostname()
	if err != nil {
		host = "a machine without a name"
	}
	return "kernwave " + Version() + " on " + host
}
