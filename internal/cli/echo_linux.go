package cli

import (
	"golang.org/x/sys/unix"
)

// echoOff keeps what a person types out of the picture, and returns what undoes it. Ctrl-C still works; Ctrl-Z is off,
// because it would leave the terminal on the other screen, without a cursor.
func echoOff(in any) (undo func()) {
	f, ok := in.(interface{ Fd() uintptr })
	if !ok {
		return func() {}
	}
	fd := int(f.Fd())
	before, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return func() {} // not a terminal
	}
	quiet := *before
	quiet.Lflag &^= unix.ECHO | unix.ICANON
	quiet.Cc[unix.VSUSP] = 0 // _POSIX_VDISABLE
	if unix.IoctlSetTermios(fd, unix.TCSETS, &quiet) != nil {
		return func() {}
	}
	return func() {
		_ = unix.IoctlSetTermios(fd, unix.TCSETSF, before) // what was typed meanwhile was for nobody
	}
}
