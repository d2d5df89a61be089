package grub

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// On UEFI the firmware starts a GRUB on the ESP, which looks for grub.cfg by a few lines beside it:
//
//	search.fs_uuid 2ab0d3f4-8d0a-4c7e-9a55-0d1f6c1f7b11 root hd0,gpt2
//	set prefix=($root)'/boot/grub'
//	configfile $prefix/grub.cfg

// maxStub bounds what is read of such a file.
const maxStub = 64 << 10

// strayCore says that the GRUB on the ESP reads another system's grub.cfg, so that nothing that is set here counts.
// uuid is of the file system of /boot/grub. What cannot be told is no reason: an ESP need not be mounted to boot.
func (d *Driver) strayCore(uuid string) string {
	if _, err := os.Stat(d.path("/sys/firmware/efi")); err != nil || uuid == "" {
		return ""
	}
	why := ""
	for _, esp := range []string{"/efi", "/boot/efi"} {
		stubs, err := filepath.Glob(d.path(esp + "/EFI/*/grub.cfg"))
		if err != nil {
			continue
		}
		for _, stub := range stubs {
			b, err := os.ReadFile(stub)
			if err != nil || len(b) > maxStub {
				continue
			}
			switch looksFor := stubUUID(string(b)); {
			case looksFor == "":
			case strings.EqualFold(looksFor, uuid):
				return "" // of several systems on one ESP, one is this
			default:
				name := strings.TrimPrefix(stub, filepath.Clean(d.root))
				why = fmt.Sprintf("/%s looks for grub.cfg on the file system %s, and /boot/grub is on %s", strings.TrimPrefix(name, "/"), looksFor, uuid)
			}
		}
	}
	return why
}

// stubUUID is the file system that a stub looks for; empty where it names none.
func stubUUID(src string) string {
	for line := range strings.Lines(src) {
		words := strings.Fields(line)
		for i, w := range words {
			switch {
			case w == "search.fs_uuid" && i+1 < len(words):
				return strings.Trim(words[i+1], `'"`)
			case w == "search" && strings.Contains(line, "--fs-uuid"):
				for _, v := range words[i+1:] {
					if !strings.HasPrefix(v, "-") && v != "root" {
						return strings.Trim(v, `'"`)
					}
				}
			}
		}
	}
	return ""
}
