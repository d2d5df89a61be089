package cli

import (
	"io"
	"strings"
	"time"

	"golang.org/x/term"
)

// Escape sequences that every terminal of this century knows; unknown ones are ignored.
const (
	enterScreen = "\x1b[?1049h\x1b[?25l" // the other screen, without cursor
	leaveScreen = "\x1b[?25h\x1b[?1049l"
	beginDraw   = "\x1b[?2026h\x1b[H" // hold the picture until it is whole; top left
	endLine     = "\x1b[K"
	endDraw     = "\x1b[J\x1b[?2026l"
)

// screen is the live view. It draws on the terminal's other screen, so that nothing of what stood there is lost, and
// leaves the last picture behind when it ends.
type screen struct {
	a     *app
	begun bool
	echo  func() // switches the terminal's echo on again
}

func (a *app) newScreen() *screen { return &screen{a: a, echo: func() {}} }

func (s *screen) show(w watched, now time.Time) error {
	if !s.begun {
		s.begun = true
		s.echo = echoOff(s.a.In)
		if _, err := io.WriteString(s.a.Out, enterScreen); err != nil {
			return err
		}
	}
	width, height := s.size()
	lines := s.frame(width, height).draw(w, now)
	_, err := io.WriteString(s.a.Out, beginDraw+strings.Join(lines, endLine+"\r\n")+endLine+endDraw)
	return err
}

func (s *screen) close(w watched, now time.Time) error {
	if !s.begun {
		return nil
	}
	width, _ := s.size()
	last := strings.TrimRight(strings.Join(s.frame(width, 0).draw(w, now), "\n"), "\n")
	_, err := io.WriteString(s.a.Out, leaveScreen+last+"\n")
	s.echo()
	return err
}

func (s *screen) frame(width, height int) frame {
	return frame{p: s.a.paletteFor(s.a.Out), g: s.a.glyphs(), width: width, height: height}
}

// size asks each time: windows change.
func (s *screen) size() (width, height int) {
	if f, ok := s.a.Out.(interface{ Fd() uintptr }); ok {
		if w, h, err := term.GetSize(int(f.Fd())); err == nil && w > 0 && h > 0 {
			return w, h
		}
	}
	return 80, 24
}
