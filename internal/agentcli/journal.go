package agentcli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/agent"
	"github.com/kernwave/kernwave/internal/agent/daemon"
)

// journals lists the host's journals, or sets a damaged one aside.
func journals(_ context.Context, a *app, args []string) error {
	var aside string
	a.outputFlag()
	a.flags.StringVar(&aside, "set-aside", "", "rename the damaged journal of this `OPERATION`, so that the agent takes part again")
	if err := a.parse(args); err != nil {
		return err
	}
	s, err := daemon.Load(a.config, a.root)
	if err != nil {
		return err
	}
	if aside != "" {
		to, err := agent.SetAside(a.disk(), s.StateDir, fleet.OperationID(aside))
		if err != nil {
			return err
		}
		fmt.Fprintf(a.Out, "renamed it to %s\nnext: systemctl restart kernwave-agent; on the control plane: kernwave why HOST\n", to)
		return nil
	}
	js, err := agent.Journals(a.disk(), s.StateDir)
	if errors.Is(err, fs.ErrPermission) {
		return &fleet.Error{Op: "read " + s.StateDir, Err: fs.ErrPermission, Next: "run it as root"}
	}
	if err != nil {
		return err
	}
	if a.output == "json" {
		enc := json.NewEncoder(a.Out)
		enc.SetIndent("", "  ")
		return enc.Encode(struct {
			Version  int                 `json:"version"`
			Journals []agent.JournalFile `json:"journals"`
		}{1, js})
	}
	if len(js) == 0 {
		fmt.Fprintln(a.Out, "no operation yet")
	}
	for _, j := range js {
		word := ""
		switch {
		case j.Aside:
			word = "  set aside"
		case j.Damage != "":
			word = "  DAMAGED"
		}
		last := "none can be read"
		if j.Last != nil {
			last = fmt.Sprintf("%d records, the last: %s at %s", j.Records, j.Last.Phase, j.Last.At.UTC().Format(time.RFC3339))
		}
		fmt.Fprintf(a.Out, "%-20s  %s%s\n", j.Operation, last, word)
		if j.Damage != "" && !j.Aside {
			fmt.Fprintf(a.Out, "    %s\n    next: %s\n", j.Damage, j.Next)
		}
	}
	return nil
}

// journalFinding says whether the agent can believe its journals.
func (a *app) journalFinding(stateDir string) finding {
	js, err := agent.Journals(a.disk(), stateDir)
	if err != nil {
		return finding{"journal", "fail", err.Error(), "see what the error names; as root"}
	}
	n := 0
	for _, j := range js {
		switch {
		case j.Aside:
		case j.Damage != "":
			return finding{"journal", "fail", "the agent is parked: " + j.Damage, j.Next}
		default:
			n++
		}
	}
	return finding{"journal", "ok", fmt.Sprintf("can be read, of %d operations", n), ""}
}
