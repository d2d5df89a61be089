package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	kwv1 "github.com/kernwave/kernwave/api/gen/kernwave/v1"
	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/operator"
	"github.com/kernwave/kernwave/internal/wire"
)

// evidenceLines is how much of the evidence a list of incidents shows: a panic's last lines say most.
const evidenceLines = 8

func (a *app) incidentsCommand() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use: "incidents [INCIDENT]", Short: "what stopped a rollout: what was seen, where, and what can be done",
		Long: `Shows open incidents: what was seen, on which hosts, against which expectation, with the end of
the evidence, and the choices. With the name of one, it alone with all its evidence.`,
		Example: "  kernwave incidents\n  kernwave incidents i-3\n  kernwave incidents --all -o json",
		Args:    atMostOne, ValidArgsFunction: a.completeNames(a.incidentNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			res, err := call(cmd.Context(), a, c.fleet.ListIncidents, &kwv1.ListIncidentsRequest{All: all || len(args) == 1})
			if err != nil {
				return err
			}
			list := each(res.GetIncidents(), wire.IncidentFromProto)
			lines := evidenceLines
			if len(args) == 1 {
				if list, err = oneIncident(list, args[0]); err != nil {
					return err
				}
				lines = 0
			}
			if a.json() {
				return printJSON(a.Out, "incidents", map[string]any{"incidents": list})
			}
			if len(list) == 0 {
				a.note("no open incidents", "kernwave incidents --all lists closed ones too")
				return nil
			}
			for i, in := range list {
				if a.quiet {
					fmt.Fprintln(a.Out, clean(in.ID))
					continue
				}
				if i > 0 {
					fmt.Fprintln(a.Out)
				}
				if err := a.printIncident(in, lines); err != nil {
					return err
				}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "closed ones too")
	return cmd
}

func oneIncident(list []operator.Incident, id string) ([]operator.Incident, error) {
	for _, in := range list {
		if in.ID == id {
			return []operator.Incident{in}, nil
		}
	}
	return nil, &fleet.Error{Op: "show incident " + id, Err: errors.New("there is no such incident"), Next: `"kernwave incidents --all" lists them`}
}

// printIncident shows one incident. lines bounds the evidence; 0 shows all of it.
func (a *app) printIncident(in operator.Incident, lines int) error {
	p := a.paletteFor(a.Out)
	s := &sheet{}
	state := p.bad("open")
	if !in.ClosedAt.IsZero() {
		state = "closed " + timeText(in.ClosedAt) + prefixed(": ", clean(in.ClosedWhy))
	}
	s.line("incident", p.strong(clean(in.ID)), state)
	s.line("at", timeText(in.At)+", "+ago(in.At, a.Now()))
	s.line("rollout", clean(in.Rollout))
	s.line("kernel", clean(string(in.Kernel)))
	s.line("type", clean(string(in.Type)))
	s.line("hosts", joined(in.Hosts, ", "))
	s.line("saw", clean(in.Saw))
	s.line("expected", clean(in.Expected))
	if err := s.print(a.Out, p, a.glyphs(), a.width()); err != nil {
		return err
	}
	a.printEvidence(in.ID, in.Evidence, in.NoEvidence, lines)
	if len(in.Choices) > 0 {
		fmt.Fprintln(a.Out, p.faint("choices"))
	}
	for i, c := range in.Choices {
		fmt.Fprintf(a.Out, "  %d. %s\n", i+1, clean(c.What))
		if c.Command != "" {
			fmt.Fprintf(a.Out, "     %s\n", p.active(clean(c.Command)))
		}
	}
	return nil
}

// printEvidence shows text from a host, or why there is none. id is the incident that shows all of it.
func (a *app) printEvidence(id, evidence, none string, lines int) {
	p := a.paletteFor(a.Out)
	if evidence == "" {
		if none != "" {
			fmt.Fprintf(a.Out, "%s  none: %s\n", p.faint("evidence"), clean(none))
		}
		return
	}
	text := cleanLines(evidence)
	hidden := ""
	if lines > 0 && len(text) > lines {
		hidden = fmt.Sprintf(" (last %d of %d lines; all: kernwave incidents %s)", lines, len(text), id)
		text = text[len(text)-lines:]
	}
	fmt.Fprintf(a.Out, "%s%s\n", p.faint("evidence"), hidden)
	for _, l := range text {
		fmt.Fprintf(a.Out, "  | %s\n", cutEnd(l, max(0, a.width()-4), a.glyphs()))
	}
}
