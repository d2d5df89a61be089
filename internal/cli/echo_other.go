//go:build !linux

package cli

// echoOff does nothing here: what a person types shows until the next drawing.
func echoOff(any) (undo func()) { return func() {} }
