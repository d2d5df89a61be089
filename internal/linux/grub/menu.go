package grub

import (
	"path"
	"slices"
	"strings"
)

// TrialID is the id of our own menu entry.
const TrialID = "kernwave-trial"

// Entry is one line of GRUB's menu.
type Entry struct {
	Title, ID string
	// Path selects the entry explicitly, as a saved_entry does: the ids, or titles where there is none, from the
	// outermost submenu inwards.
	Path string
	// Release is the kernel that the entry boots, by the name of its file. Empty: a submenu, or not a kernel of /boot.
	Release string
	Kernel  string   // the kernel's path, as GRUB sees it
	Initrds []string // as GRUB sees them
	// Recovery entries boot the kernel into single user mode.
	Recovery bool
	// SavesDefault says that choosing the entry makes it the default.
	SavesDefault bool
	Children     []*Entry // of a submenu
	Submenu      bool

	header []string // the words of its first line
	body   string
}

// menuOf collects the entries of a script.
func menuOf(cs []statement, parent string) []*Entry {
	var es []*Entry
	for _, c := range cs {
		if (c.words[0] != "menuentry" && c.words[0] != "submenu") || len(c.words) < 2 || c.header == "" {
			continue
		}
		e := &Entry{Title: c.words[1], ID: idOf(c.words), Submenu: c.words[0] == "submenu", header: c.words, body: c.body}
		name := e.ID
		if name == "" {
			name = e.Title
		}
		e.Path = parent + strings.ReplaceAll(name, ">", ">>")
		if e.Submenu {
			e.Children = menuOf(c.block, e.Path+">")
		} else {
			e.readBody(c.block)
		}
		es = append(es, e)
	}
	return es
}

func idOf(words []string) string {
	for i, w := range words {
		if id, ok := strings.CutPrefix(w, "--id="); ok {
			return id
		}
		// grub-mkconfig writes $menuentry_id_option, which the header sets to --id.
		if (w == "--id" || w == "$menuentry_id_option" || w == "${menuentry_id_option}") && i+1 < len(words) {
			return words[i+1]
		}
	}
	return ""
}

func (e *Entry) readBody(cs []statement) {
	for _, c := range cs {
		switch {
		case isLinux(c.words[0]) && len(c.words) > 1:
			e.Kernel = c.words[1]
			e.Release = releaseOf(e.Kernel)
			e.Recovery = slices.Contains(c.words, "single") || slices.Contains(c.words, "recovery")
		case isInitrd(c.words[0]):
			e.Initrds = append(e.Initrds, c.words[1:]...)
		case c.words[0] == "savedefault":
			e.SavesDefault = true
		}
	}
}

func isLinux(w string) bool  { return w == "linux" || w == "linux16" || w == "linuxefi" }
func isInitrd(w string) bool { return w == "initrd" || w == "initrd16" || w == "initrdefi" }

// releaseOf takes the release from a kernel's file name: /boot/vmlinuz-6.12.9-amd64.
func releaseOf(kernel string) string {
	if strings.ContainsAny(kernel, "$()") {
		return "" // on a device that only GRUB knows
	}
	base := strings.TrimSuffix(path.Base(kernel), ".efi.signed")
	for _, prefix := range []string{"vmlinuz-", "vmlinux-", "kernel-"} {
		if r, ok := strings.CutPrefix(base, prefix); ok {
			return r
		}
	}
	return ""
}

// stock finds the entry that boots a release and names it: the one of its own, for the entry at the top of a menu
// with submenus boots the newest kernel, whichever that is.
func stock(menu []*Entry, release string) *Entry {
	for _, e := range menu {
		if e.Submenu {
			if found := stock(e.Children, release); found != nil {
				return found
			}
			continue
		}
		last := e.ID
		if last == "" {
			last = e.Title
		}
		if e.Release == release && !e.Recovery && e.ID != TrialID && namesRelease(last, release) {
			return e
		}
	}
	return nil
}

// namesRelease says whether name contains release as a whole: 6.1.0-5-amd64 is not in linux-6.1.0-5-amd64v3, nor in 16.1.0-5-amd64.
func namesRelease(name, release string) bool {
	for from := 0; ; {
		i := strings.Index(name[from:], release)
		if i < 0 {
			return false
		}
		i += from
		before, after := i == 0 || !inRelease(name[i-1]), i+len(release) == len(name) || !inRelease(name[i+len(release)])
		if before && after {
			return true
		}
		from = i + 1
	}
}

// inRelease leaves out '-': it is also what grub-mkconfig puts around a release in an id.
func inRelease(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '.' || c == '+' || c == '~' || c == '_'
}

// releases lists the kernels that have an entry of their own.
func releases(menu []*Entry) []string {
	var rs []string
	var walk func([]*Entry)
	walk = func(es []*Entry) {
		for _, e := range es {
			walk(e.Children)
			if e.Release != "" && stock(menu, e.Release) != nil {
				rs = append(rs, e.Release)
			}
		}
	}
	walk(menu)
	slices.Sort(rs)
	return slices.Compact(rs)
}
