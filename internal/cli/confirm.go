package cli

import (
	"bufio"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// confirmFlag adds --yes to a command that cannot be taken back.
func confirmFlag(cmd *cobra.Command, yes *bool) {
	cmd.Flags().BoolVarP(yes, "yes", "y", false, "do not ask")
}

// confirm asks a person on a terminal, and needs yes where nobody can be asked. consequence is a sentence.
func (a *app) confirm(cmd *cobra.Command, yes bool, consequence string) error {
	if yes {
		return nil
	}
	if !a.interactive() {
		return &usageError{verb(cmd) + " needs --yes where nobody can be asked: " + consequence, "repeat it with --yes"}
	}
	fmt.Fprintf(a.Err, "%s\nGo on? [y/N] ", strings.Join(wrap(clean(consequence), widthOf(a.Err)), "\n"))
	// The answer comes on a goroutine of its own, so that Ctrl-C works while it is waited for. It ends with the process.
	answer := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(a.In).ReadString('\n')
		answer <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case <-cmd.Context().Done():
		fmt.Fprintln(a.Err)
		return cmd.Context().Err()
	case s := <-answer:
		if s == "y" || s == "yes" {
			return nil
		}
	}
	return &advised{errors.New("not confirmed: nothing was changed"), "answer y, or use --yes"}
}

// whyFlag adds --why; need makes it required, because the reason is part of the record.
func whyFlag(cmd *cobra.Command, why *string, need bool) {
	help := "the reason, for the record"
	if need {
		help += " (required)"
		run := cmd.RunE
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			if strings.TrimSpace(*why) == "" {
				return &usageError{verb(cmd) + " needs a reason: it is kept in the record", `add --why "…"`}
			}
			return run(cmd, args)
		}
	}
	cmd.Flags().StringVar(why, "why", "", help)
}
