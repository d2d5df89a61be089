package cli

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

const rootLong = `Kernwave updates the Linux kernel on every machine of a fleet, and proves at each step
that it may go on. This program runs the control plane ("kernwave server") and speaks to it.`

// The groups in which help lists the commands.
const (
	groupRollout = "rollout"
	groupFleet   = "fleet"
	groupAccess  = "access"
)

// newRoot builds the whole tree of commands for one invocation.
func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "kernwave",
		Short: "update the kernel of a fleet, safely",
		Long:  rootLong,
		Example: `  kernwave kernel add linux-image-6.12.117+deb12-cloud-amd64_*.deb
  kernwave rollout plan 6.12.117+deb12-cloud-amd64
  kernwave rollout start 6.12.117+deb12-cloud-amd64 --watch
  kernwave why web-7
  kernwave stop --why "web shop is slow since the rollout"`,
		SilenceErrors: true, // Run reports them, with what to do next
		SilenceUsage:  true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case a.output == "table", a.output == "json", a.output == "yaml" && cmd.Annotations[writesYAML] != "":
			case cmd.Annotations[writesYAML] != "":
				return &usageError{fmt.Sprintf("unknown output %q", a.output), "use -o table, -o json or -o yaml"}
			default:
				return &usageError{fmt.Sprintf("unknown output %q", a.output), "use -o table or -o json"}
			}
			if a.timeout <= 0 {
				return &usageError{"--timeout must be more than 0", "use for example --timeout 30s"}
			}
			return nil
		},
	}
	f := root.PersistentFlags()
	f.StringVarP(&a.output, "output", "o", "table", "how to print the answer: table, json")
	f.BoolVar(&a.noColor, "no-color", false, "no colours; NO_COLOR does the same")
	f.BoolVarP(&a.quiet, "quiet", "q", false, "print names only, no notes, no progress")
	f.DurationVar(&a.timeout, "timeout", 30*time.Second, "how long to wait for one answer")
	f.StringVar(&a.conn.server, "server", "", "`URL` of the control plane")
	f.StringVar(&a.conn.ca, "ca", "", "`FILE` with the CA of the control plane")
	f.StringVar(&a.conn.tokenFile, "token-file", "", "`FILE` with your token")
	f.StringVar(&a.conn.config, "config", "", "settings `FILE`, or the data directory of a server")

	root.AddGroup(
		&cobra.Group{ID: groupRollout, Title: "Roll out kernels:"},
		&cobra.Group{ID: groupFleet, Title: "Look after the fleet:"},
		&cobra.Group{ID: groupAccess, Title: "Set up and let in:"},
	)
	add := func(id string, cmds ...*cobra.Command) {
		for _, c := range cmds {
			c.GroupID = id
			root.AddCommand(c)
		}
	}
	add(groupRollout, a.kernelCommand(), a.rolloutCommand(), a.incidentsCommand(), a.whyCommand(), a.stopCommand(), a.judgeCommand(), a.simCommand())
	add(groupFleet, a.hostsCommand(), a.hostCommand(), a.eventsCommand(), a.statusCommand(), a.budgetCommand())
	add(groupFleet, a.cacheCommand())
	add(groupAccess, a.serverCommand(), a.backupCommand(), a.restoreCommand(), a.tokenCommand(), a.operatorCommand(), a.caCommand(), a.configCommand())
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		switch c.Name() {
		case "help":
			c.GroupID, c.Short = groupAccess, "explain a command or a topic"
		case "completion":
			c.GroupID, c.Short = groupAccess, "write a script with which the shell completes commands and names"
		}
	}
	add(groupAccess, a.versionCommand())
	root.AddCommand(topic("exit-codes", "what the exit codes mean", exitCodesText),
		topic("connection", "how the control plane is found", connectionText))
	root.SetUsageTemplate(usageTemplate)
	root.CompletionOptions.SetDefaultShellCompDirective(cobra.ShellCompDirectiveNoFileComp)
	_ = root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "json"}, cobra.ShellCompDirectiveNoFileComp))
	finish(root)
	return root
}

// helpWidth is the width of help: that of the smallest terminal in use.
const helpWidth = 80

// reflow wraps the paragraphs of a text; those with an indented line are laid out already.
func reflow(text string, width int) string {
	paragraphs := strings.Split(text, "\n\n")
	for i, p := range paragraphs {
		if !strings.HasPrefix(p, " ") && !strings.Contains(p, "\n ") {
			paragraphs[i] = strings.Join(wrap(p, width), "\n")
		}
	}
	return strings.Join(paragraphs, "\n\n")
}

// writesYAML marks commands that know -o yaml besides.
const writesYAML = "yaml"

// isGroup marks commands that only hold others, so that help does not show them as something to run.
const isGroup = "group"

// usageTemplate is cobra's, without what is the same on every page.
const usageTemplate = `Usage:{{if not .Annotations.group}}
  {{.UseLine}}{{end}}{{if .HasAvailableSubCommands}}
  {{.CommandPath}} COMMAND{{end}}{{if .HasExample}}

Examples:
{{.Example}}{{end}}{{$cmds := .Commands}}{{if .Groups}}{{range $group := .Groups}}

{{.Title}}{{range $cmds}}{{if and (eq .GroupID $group.ID) (or .IsAvailableCommand (eq .Name "help"))}}
  {{rpad .Name .NamePadding}} {{.Short}}{{end}}{{end}}{{end}}{{else if .HasAvailableSubCommands}}

Commands:{{range $cmds}}{{if .IsAvailableCommand}}
  {{rpad .Name .NamePadding}} {{.Short}}{{end}}{{end}}{{end}}{{if .HasHelpSubCommands}}

Topics:{{range $cmds}}{{if .IsAdditionalHelpTopicCommand}}
  {{rpad .Name .NamePadding}} {{.Short}}{{end}}{{end}}{{end}}{{if and .HasAvailableLocalFlags .HasParent}}

Flags:
{{.LocalFlags.FlagUsagesWrapped 80 | trimTrailingWhitespaces}}{{else if not .HasParent}}

Flags of every command:
{{.LocalFlags.FlagUsagesWrapped 80 | trimTrailingWhitespaces}}{{end}}{{if .HasParent}}

"{{.Root.Name}} --help" shows the flags of every command.{{else}}

"{{.CommandPath}} COMMAND --help" explains a command, "{{.CommandPath}} help TOPIC" a topic.{{end}}
`

// topic is a page of help without anything to run.
func topic(name, short, text string) *cobra.Command {
	return &cobra.Command{Use: name, Short: short, Long: text}
}

// finish gives every command of the tree the same manners: mistakes in flags and arguments become a usageError that
// says what to type instead.
func finish(cmd *cobra.Command) {
	cmd.SetFlagErrorFunc(flagError)
	cmd.Flags().SortFlags = false
	cmd.Long = reflow(cmd.Long, helpWidth)
	cmd.InitDefaultHelpFlag()
	cmd.Flags().Lookup("help").Usage = "explain this command"
	if cmd.HasSubCommands() && cmd.RunE == nil && cmd.Run == nil {
		if cmd.Annotations == nil {
			cmd.Annotations = map[string]string{}
		}
		cmd.Annotations[isGroup] = "yes"
		cmd.Args = cobra.ArbitraryArgs
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			return unknownCommand(cmd, args[0])
		}
	}
	for _, c := range cmd.Commands() {
		finish(c)
	}
}

func unknownCommand(cmd *cobra.Command, name string) error {
	next := fmt.Sprintf("%q lists the commands", cmd.CommandPath()+" --help")
	cmd.SuggestionsMinimumDistance = 2
	if near := cmd.SuggestionsFor(name); len(near) > 0 {
		next = fmt.Sprintf("did you mean %q? ", cmd.CommandPath()+" "+near[0]) + next
	}
	return &usageError{fmt.Sprintf("unknown command %q", cmd.CommandPath()+" "+name), next}
}

// flagError turns pflag's words into ours, with the nearest flag that exists.
func flagError(cmd *cobra.Command, err error) error {
	next := fmt.Sprintf("%q lists the flags", cmd.CommandPath()+" --help")
	if strings.Contains(err.Error(), "in duration") {
		next = "write a time like 90s, 10m or 2h"
	}
	if name, ok := strings.CutPrefix(err.Error(), "unknown flag: --"); ok {
		var names []string
		cmd.Flags().VisitAll(visitNames(&names))
		cmd.InheritedFlags().VisitAll(visitNames(&names))
		if near := nearest(name, names); len(near) > 0 {
			next = "did you mean --" + near[0] + "? " + next
		}
	}
	return &usageError{err.Error(), next}
}

// names are the arguments that a command takes, for messages: "HOST".
func arguments(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		next := "write it like: " + usageLine(cmd)
		switch {
		case len(args) < len(names):
			return &usageError{verb(cmd) + " needs " + strings.Join(names[len(args):], " and "), next}
		case len(args) > len(names):
			return &usageError{fmt.Sprintf("%s does not know what to do with %q", verb(cmd), args[len(names)]), next}
		}
		return nil
	}
}

// atMostOne is arguments for one that may be left out.
func atMostOne(cmd *cobra.Command, args []string) error {
	if len(args) > 1 {
		return &usageError{fmt.Sprintf("%s takes one name, not %d", verb(cmd), len(args)), "write it like: " + usageLine(cmd)}
	}
	return nil
}

func usageLine(cmd *cobra.Command) string {
	return strings.TrimSuffix(cmd.UseLine(), " [flags]")
}
