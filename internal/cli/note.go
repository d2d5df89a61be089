package cli

import (
	"fmt"
	"strings"
)

// note tells a person something beside the answer, and what to do about it; programs and -q do not get it.
func (a *app) note(what, next string) {
	if a.quiet || a.json() {
		return
	}
	if what != "" {
		a.say("", nil, what)
	}
	if next != "" {
		a.say("next:", palette.good, next)
	}
}

// say prints one line to a person on standard error, wrapped where that is a terminal: "kernwave: error: …".
func (a *app) say(word string, paint func(palette, string) string, text string) {
	head, shown := "kernwave: ", "kernwave: "
	if word != "" {
		head += word + " "
		shown += paint(a.paletteFor(a.Err), word) + " "
	}
	lines := wrap(clean(text), widthOf(a.Err)-len(head))
	fmt.Fprintln(a.Err, shown+strings.Join(lines, "\n"+strings.Repeat(" ", len(head))))
}

// warn tells what must not be missed, also with -q and -o json.
func (a *app) warn(what string) {
	a.say("warning:", palette.warn, what)
}
