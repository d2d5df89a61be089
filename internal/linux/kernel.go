package linux

import (
	"encoding/binary"
	"encoding/hex"
	"regexp"
	"strings"

	"github.com/kernwave/kernwave/fleet"
)

func (h *Host) kernelFacts() fleet.Running {
	r := fleet.Running{
		Release: h.text("/proc/sys/kernel/osrelease"),
		Version: h.text("/proc/sys/kernel/version"),
		BuildID: buildID([]byte(h.raw("/sys/kernel/notes"))),
		Cmdline: h.text("/proc/cmdline"),
	}
	r.Flavour = flavourOf(r.Release)
	return r
}

// releaseSyntax takes a release apart: the version with what the builder added to it, ABI numbers, the flavour.
var releaseSyntax = regexp.MustCompile(`^[0-9]+(?:\.[0-9]+)*(?:[+~][A-Za-z0-9.+~]*)?(?:-(?:rc[0-9]+|[0-9][A-Za-z0-9._+~]*))*(?:-(.+))?$`)

// flavourOf is what is left of a release without its version and ABI number: 6.12.117+deb12-cloud-amd64 gives
// cloud-amd64, 6.1.0-56-amd64 gives amd64, 6.8.0-45-generic gives generic.
func flavourOf(release string) string {
	m := releaseSyntax.FindStringSubmatch(release)
	if m == nil {
		return ""
	}
	return m[1]
}

// buildID finds the GNU build id among the ELF notes of a kernel; empty where there is none.
//
// A note is three 32-bit words (length of the name, length of the content, type), the name and the content, each padded to 4 bytes.
func buildID(notes []byte) string {
	for len(notes) >= 12 {
		name, desc := binary.NativeEndian.Uint32(notes), binary.NativeEndian.Uint32(notes[4:])
		kind := binary.NativeEndian.Uint32(notes[8:])
		notes = notes[12:]
		nameEnd, descEnd := pad4(name), pad4(desc)
		if nameEnd > uint64(len(notes)) || descEnd > uint64(len(notes))-nameEnd {
			return ""
		}
		if kind == 3 && strings.TrimRight(string(notes[:name]), "\x00") == "GNU" {
			return hex.EncodeToString(notes[nameEnd : nameEnd+uint64(desc)])
		}
		notes = notes[nameEnd+descEnd:]
	}
	return ""
}

func pad4(n uint32) uint64 { return (uint64(n) + 3) &^ 3 }
