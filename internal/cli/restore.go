package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/kernwave/kernwave/internal/backup"
)

func (a *app) restoreCommand() *cobra.Command {
	var dir string
	var force bool
	cmd := &cobra.Command{
		Use: "restore --data DIR FILE", Short: "put a backup of a control plane into a data directory",
		Long: `Puts FILE, which "kernwave backup" wrote, into DIR. The server must not run. Every checksum is
compared before anything is touched. A directory that holds a control plane is refused; with
--force what is there is moved aside into DIR/before-restore-TIME, never removed. Killed at any
instant, it has either changed nothing, or the next start of the server finishes it.

The server is then started as always. It knows that it was restored: it begins in a new
incarnation with everything stopped and every open rollout paused, asks every host what it did
since the backup, and counts each as out of service until it has answered.`,
		Example: `  kernwave restore --data /var/lib/kernwave /backup/kernwave.backup
  kernwave restore --data /var/lib/kernwave --force /backup/kernwave.backup`,
		Args: arguments("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if dir == "" {
				return &usageError{"--data must be given", "for example: kernwave restore --data /var/lib/kernwave kernwave.backup"}
			}
			res, err := backup.Restore(cmd.Context(), backup.Target{Dir: dir, Force: force, Now: a.Now()}, args[0])
			if err != nil {
				return err
			}
			if a.json() {
				return printJSON(a.Out, "restore", struct {
					Dir   string `json:"data"`
					Aside string `json:"aside,omitempty"`
					backup.Manifest
				}{dir, res.Aside, res.Manifest})
			}
			return a.printRestore(dir, res)
		},
	}
	cmd.Flags().StringVar(&dir, "data", "", "data `DIR`ectory to put it into; made if need be (required)")
	cmd.Flags().BoolVar(&force, "force", false, "move a control plane that is in it aside")
	_ = cmd.MarkFlagDirname("data")
	return cmd
}

func (a *app) printRestore(dir string, res backup.Result) error {
	if a.quiet {
		return nil
	}
	s := &sheet{}
	s.line("restored", clean(dir))
	a.describeBackup(s, res.Manifest)
	if res.Aside != "" {
		s.line("before", "what was there is in "+clean(res.Aside))
	}
	if err := s.print(a.Out, a.paletteFor(a.Out), a.glyphs(), a.width()); err != nil {
		return err
	}
	fmt.Fprint(a.Out, `
what happens next
  1. start the server as always. Everything is stopped, every open rollout is paused
  2. it asks each host what it did since the backup; kernwave status says who is missing
  3. operators, tokens and revocations made since the backup are gone: revoke again what was revoked
  4. when it may go on: kernwave stop lift, then kernwave rollout resume for each that is to go on
`)
	if !res.Manifest.Packages {
		a.warn("the backup has no packages: those that are not in " + dir + "/blobs have to be uploaded again: kernwave kernel add FILE.deb")
	}
	return nil
}
