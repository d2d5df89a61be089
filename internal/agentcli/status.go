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
	"github.com/kernwave/kernwave/internal/agent/identity"
)

// statusAnswer is status -o json.
type statusAnswer struct {
	Version     int            `json:"version"`
	Host        fleet.HostID   `json:"host,omitempty"` // empty: not enrolled
	Server      string         `json:"server"`
	Certificate time.Time      `json:"certificate_until,omitzero"`
	Damaged     []string       `json:"damaged,omitempty"`
	Records     []agent.Record `json:"records"` // oldest first
}

func status(_ context.Context, a *app, args []string) error {
	var all bool
	a.outputFlag()
	a.flags.BoolVar(&all, "all", false, "every operation's records, not only the newest one's")
	if err := a.parse(args); err != nil {
		return err
	}
	s, err := daemon.Load(a.config, a.root)
	if err != nil {
		return err
	}
	if _, err := a.disk().ReadFile(s.StateDir + "/host.key"); errors.Is(err, fs.ErrPermission) {
		return &fleet.Error{Op: "read " + s.StateDir, Err: fs.ErrPermission, Next: "run it as root"}
	}
	ans := statusAnswer{Version: 1, Server: s.Server}
	id, err := identity.Open(a.disk(), s.StateDir)
	if err != nil {
		return err
	}
	if id.Enrolled() {
		ans.Host, ans.Certificate = id.Host(), id.Certificate().NotAfter
	}
	records, damaged := agent.History(a.disk(), s.StateDir)
	for _, d := range damaged {
		ans.Damaged = append(ans.Damaged, d.Error())
	}
	if !all && len(records) > 0 {
		newest := records[len(records)-1].Seq
		for len(records) > 0 && records[0].Seq != newest {
			records = records[1:]
		}
	}
	ans.Records = records
	if a.output == "json" {
		enc := json.NewEncoder(a.Out)
		enc.SetIndent("", "  ")
		return enc.Encode(ans)
	}
	ans.print(a)
	return nil
}

func (ans statusAnswer) print(a *app) {
	if ans.Host == "" {
		fmt.Fprintf(a.Out, "not enrolled with %s\n", ans.Server)
	} else {
		fmt.Fprintf(a.Out, "%s, enrolled with %s, certificate until %s\n", ans.Host, ans.Server, ans.Certificate.UTC().Format(time.RFC3339))
	}
	for _, d := range ans.Damaged {
		fmt.Fprintln(a.Out, "damaged:", d)
	}
	if len(ans.Records) == 0 {
		fmt.Fprintln(a.Out, "no operation yet")
		return
	}
	var lastOp fleet.OperationID
	var lastPhase fleet.Phase
	for _, r := range ans.Records {
		if r.Operation != lastOp {
			fmt.Fprintf(a.Out, "\noperation %s: %s to %s\n", r.Operation, r.Kind, r.Release)
			lastOp, lastPhase = r.Operation, ""
		}
		if r.Phase == lastPhase {
			continue
		}
		lastPhase = r.Phase
		fmt.Fprintf(a.Out, "  %s  %-10s", r.At.UTC().Format(time.RFC3339), r.Phase)
		if r.Problem != nil {
			fmt.Fprintf(a.Out, "  %s", r.Problem.What)
		}
		fmt.Fprintln(a.Out)
	}
}
