package cli

import (
	"image/color"
	"io"
	"strings"

	"charm.land/lipgloss/v2"
)

// palette colours words by what they mean. The zero palette leaves them as they are.
type palette struct{ on bool }

// paletteFor gives colours where a person sees them and nobody switched them off (--no-color, NO_COLOR, TERM=dumb).
func (a *app) paletteFor(w io.Writer) palette {
	return palette{on: !a.noColor && a.Getenv("NO_COLOR") == "" && a.Getenv("TERM") != "dumb" && isTerminal(w)}
}

// The sixteen colours of the terminal's own theme: readable on light and dark ones alike.
func (p palette) good(s string) string   { return p.paint(s, lipgloss.Green) }
func (p palette) bad(s string) string    { return p.paint(s, lipgloss.Red) }
func (p palette) warn(s string) string   { return p.paint(s, lipgloss.Yellow) }
func (p palette) active(s string) string { return p.paint(s, lipgloss.Cyan) }

func (p palette) paint(s string, c color.Color) string {
	if !p.on || s == "" {
		return s
	}
	return lipgloss.NewStyle().Foreground(c).Render(s)
}

func (p palette) faint(s string) string {
	if !p.on || s == "" {
		return s
	}
	return lipgloss.NewStyle().Faint(true).Render(s)
}

func (p palette) strong(s string) string {
	if !p.on || s == "" {
		return s
	}
	return lipgloss.NewStyle().Bold(true).Render(s)
}

// state colours a word that says how a host, an operation or a rollout is.
func (p palette) state(s string) string { return p.like(s, s) }

// like colours s as the state word would be.
func (p palette) like(state, s string) string {
	switch state {
	case "active", "committed", "done", "approved", "prepared", "passed":
		return p.good(s)
	case "running", "planned", "preparing", "draining", "drained", "rebooting", "trial", "committing", "soaking":
		return p.active(s)
	case "paused", "held", "maintenance", "undraining", "reverting", "aborting", "rolling-back", "out", "silent", "skipped", "left-out":
		return p.warn(s)
	case "fell-back", "failed", "refused", "reverted", "aborted", "rolled-back", "revoked", "parked", "lost", "frozen":
		return p.bad(s)
	}
	return s
}

// glyphs are the characters beyond ASCII that views use.
type glyphs struct{ full, empty, dot, arrow, cut string }

// glyphs falls back to ASCII where the locale says that the terminal knows nothing else.
func (a *app) glyphs() glyphs {
	locale := orElse(a.Getenv("LC_ALL"), orElse(a.Getenv("LC_CTYPE"), a.Getenv("LANG")))
	l := strings.ToLower(locale)
	if strings.Contains(l, "utf-8") || strings.Contains(l, "utf8") {
		return glyphs{full: "█", empty: "░", dot: "·", arrow: "→", cut: "…"}
	}
	return glyphs{full: "#", empty: ".", dot: "-", arrow: "->", cut: "~"}
}
