package agentcli

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/agent/daemon"
	"github.com/kernwave/kernwave/internal/agent/hook"
)

// finding is what doctor prints of a linux.Finding, or of its own.
type finding struct {
	Name  string `json:"name"`
	Level string `json:"level"` // ok, warn, fail
	Saw   string `json:"saw"`
	Next  string `json:"next,omitempty"`
}

func doctor(ctx context.Context, a *app, args []string) error {
	a.outputFlag()
	if err := a.parse(args); err != nil {
		return err
	}
	log := a.log(slog.LevelError)
	var fs []finding
	host, err := a.host(log)
	if err != nil {
		fs = append(fs, finding{"machine", "fail", err.Error(), "see what the error names"})
	} else {
		for _, f := range host.Doctor(ctx) {
			fs = append(fs, finding{f.Name, string(f.Level), f.Saw, f.Next})
		}
		fs = append(fs, a.ownFindings(ctx, host, log)...)
	}
	failed := 0
	for _, f := range fs {
		if f.Level == "fail" {
			failed++
		}
	}
	if a.output == "json" {
		enc := json.NewEncoder(a.Out)
		enc.SetIndent("", "  ")
		err := enc.Encode(struct {
			Version  int       `json:"version"`
			Fit      bool      `json:"fit"`
			Findings []finding `json:"findings"`
		}{1, failed == 0, fs})
		if err != nil {
			return err
		}
	} else {
		for _, f := range fs {
			fmt.Fprintf(a.Out, "%-4s  %-13s  %s\n", f.Level, f.Name, f.Saw)
			if f.Next != "" {
				fmt.Fprintf(a.Out, "      %-13s  next: %s\n", "", f.Next)
			}
		}
		if failed == 0 {
			fmt.Fprintln(a.Out, "\nthis host can take part")
		} else {
			fmt.Fprintf(a.Out, "\nthis host cannot take part yet: mend what fails (%d)\n", failed)
		}
	}
	if failed > 0 {
		return errFindings
	}
	return nil
}

// ownFindings are about the agent itself: settings, programs, and the way to the control plane.
func (a *app) ownFindings(ctx context.Context, host Host, log *slog.Logger) []finding {
	s, err := daemon.Load(a.config, a.root)
	if err != nil {
		return []finding{{"settings", "fail", err.Error(), fleet.NextOf(err, "see what the error names")}}
	}
	fs := []finding{{"settings", "ok", "server " + s.Server + ", name " + string(s.Name), ""}}
	if set, err := hook.Load(s.HooksDir); err != nil {
		fs = append(fs, finding{"programs", "fail", err.Error(), "mend the files named"})
	} else {
		var n []string
		for _, k := range []hook.Kind{hook.Drain, hook.Undrain, hook.Ready, hook.Check} {
			n = append(n, fmt.Sprintf("%d %s", len(set.Of(k)), k))
		}
		fs = append(fs, finding{"programs", "ok", strings.Join(n, ", ") + " in " + s.HooksDir, ""})
	}
	fs = append(fs, a.journalFinding(s.StateDir))
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	enrolled, err := daemon.Reach(ctx, s, a.program(), host, log)
	switch {
	case enrolled == "":
		fs = append(fs, finding{
			"enrolment", "fail", "the host has no certificate yet",
			"create a token on the control plane (kernwave token create) and type here what it prints",
		})
	default:
		fs = append(fs, finding{"enrolment", "ok", "enrolled as " + string(enrolled), ""})
		if why, err := daemon.Copied(ctx, s, a.program(), host); why != "" {
			fs = append(fs, finding{
				"machine", "fail", why,
				"if this is a copy: kernwave-agent enrol --anew --name NAME, with a new token; if its disk was moved or its hardware replaced: kernwave-agent enrol --moved",
			})
		} else if err == nil {
			fs = append(fs, finding{"machine", "ok", "the certificate was given to this machine", ""})
		}
	}
	if err != nil {
		return append(fs, finding{"server", "fail", err.Error(), fleet.NextOf(err, "see what the error names")})
	}
	return append(fs, finding{"server", "ok", s.Server + " answers and is the trusted one", ""})
}
