package cli

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/operator"
	"github.com/kernwave/kernwave/rollout"
)

var errNoRollouts = errors.New("there are none")

// specFlags are what plan and start share: what an operator asks for.
type specFlags struct {
	selector, waves, note string
	soak                  time.Duration
	returnWithin          time.Duration
	trialDeadline         time.Duration
	canaries              int
	leaveOut              []string
}

func (s *specFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVarP(&s.selector, "selector", "l", "", selectorHelp)
	f.StringVar(&s.waves, "waves", "", "shares of the hosts in per `CENT` (default 1,5,25,100)")
	f.DurationVar(&s.soak, "soak", rollout.DefaultSoak, "how long each finished stage is watched")
	f.IntVar(&s.canaries, "canaries", 1, "hosts of each type that try the kernel first")
	f.DurationVar(&s.returnWithin, "return-within", 15*time.Minute, "how long a host may be gone for its reboot")
	f.DurationVar(&s.trialDeadline, "trial-deadline", 10*time.Minute, "from boot to checks passed, or the host goes back")
	f.StringArrayVar(&s.leaveOut, "leave-out", nil, "leave out a host `TYPE`; can be repeated")
	f.StringVar(&s.note, "note", "", "what to remember about this rollout")
}

// spec checks the flags and makes a request of them. Every mistake is reported at once.
func (s *specFlags) spec(cmd *cobra.Command, kernel string) (operator.RolloutSpec, error) {
	waves, err := parseWaves(s.waves)
	if err != nil {
		return operator.RolloutSpec{}, &usageError{err.Error(), "write it like --waves 1,5,25,100"}
	}
	if _, err := fleet.ParseSelector(s.selector); err != nil {
		return operator.RolloutSpec{}, &usageError{err.Error(), "write it like --selector workload=web,datacenter=fra"}
	}
	spec := operator.RolloutSpec{Kernel: fleet.KernelID(kernel), Selector: s.selector, Waves: waves, Note: s.note}
	if cmd.Flags().Changed("soak") {
		spec.Soak = &s.soak
	}
	if cmd.Flags().Changed("canaries") {
		spec.Canaries = s.canaries
	}
	if cmd.Flags().Changed("return-within") {
		spec.ReturnWithin = s.returnWithin
	}
	if cmd.Flags().Changed("trial-deadline") {
		spec.TrialDeadline = s.trialDeadline
	}
	for _, t := range s.leaveOut {
		spec.LeaveOut = append(spec.LeaveOut, fleet.HostTypeID(t))
	}
	// Zero means the default in a request, and a mistake on a command line: the values as typed are checked.
	typed := rollout.Spec{
		Kernel: spec.Kernel, Waves: waves, Soak: s.soak,
		Canaries: s.canaries, ReturnWithin: s.returnWithin, TrialDeadline: s.trialDeadline,
	}
	if err := typed.Validate(); err != nil {
		return operator.RolloutSpec{}, &usageError{strings.ReplaceAll(err.Error(), "\n", "; "), `see "` + cmd.CommandPath() + ` --help"`}
	}
	return spec, nil
}

// parseWaves reads "1,5,25,100"; a per cent sign is allowed.
func parseWaves(s string) ([]int, error) {
	if strings.TrimSpace(s) == "" {
		return nil, nil
	}
	var waves []int
	for part := range strings.SplitSeq(s, ",") {
		number := strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(part), "%"))
		n, err := strconv.Atoi(number)
		if err != nil || n < 1 || n > 100 {
			return nil, fmt.Errorf("waves: %q is no share from 1 to 100 per cent", strings.TrimSpace(part))
		}
		waves = append(waves, n)
	}
	return waves, nil
}
