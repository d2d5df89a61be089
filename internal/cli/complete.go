package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"
)

// completeLimit is how long a completion may take: a person waits with a finger on the key.
const completeLimit = time.Second

// completeNames completes arguments from what the control plane knows: sources[i] for argument i. Whatever goes
// wrong means no completions: nothing may be printed into a half-typed line.
func (a *app) completeNames(sources ...func(context.Context) ([]string, error)) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) >= len(sources) {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), completeLimit)
		defer cancel()
		a.timeout, a.quiet = completeLimit, true
		names, err := sources[len(args)](ctx)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}

// flagNames completes a flag's value.
func (a *app) flagNames(cmd *cobra.Command, flag string, source func(context.Context) ([]string, error)) {
	err := cmd.RegisterFlagCompletionFunc(flag, func(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
		return a.completeNames(source)(cmd, nil, typed)
	})
	if err != nil {
		panic(err) // the flag is not there: a bug
	}
}

// fixed completes from words that never change.
func fixed(words ...string) func(context.Context) ([]string, error) {
	return func(context.Context) ([]string, error) { return words, nil }
}
