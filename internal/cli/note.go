package cli

import "fmt"

// note tells a person something beside the answer, and what to do about it; programs and -q do not get it.
func (a *app) note(what, next string) {
	if a.quiet || a.json() {
		return
	}
	p := a.paletteFor(a.Err)
	if what != "" {
		fmt.Fprintf(a.Err, "kernwave: %s\n", clean(what))
	}
	if next != "" {
		fmt.Fprintf(a.Err, "kernwave: %s %s\n", p.good("next:"), clean(next))
	}
}

// warn tells what must not be missed, also with -q and -o json.
func (a *app) warn(what string) {
	fmt.Fprintf(a.Err, "kernwave: %s %s\n", a.paletteFor(a.Err).warn("warning:"), clean(what))
}
