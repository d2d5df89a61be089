package linux

import (
	"cmp"
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxCrash is the most of a crash's text that is given on; it becomes an operation's evidence.
const maxCrash = 16 << 10

// maxRecord bounds what is read of one record; a backend's are at most some hundred KiB.
const maxRecord = 1 << 20

// pstoreDirs are where the kernel shows its records, and where systemd-pstore moves them to at boot.
var pstoreDirs = []string{"/sys/fs/pstore", "/var/lib/systemd/pstore"}

// CrashText recovers the last words of a kernel that crashed after since, from pstore, or says why there are none.
func (h *Host) CrashText(_ context.Context, since time.Time) (text, why string) {
	var parts []record
	for _, dir := range pstoreDirs {
		// The error is about one file; what can be read is worth having.
		_ = filepath.WalkDir(h.path(dir), func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() || !strings.HasPrefix(e.Name(), "dmesg") {
				return nil
			}
			fi, err := e.Info()
			// pstore's times are the crash's own, by a clock that may be a little off from the one that since is of.
			if err != nil || fi.ModTime().Before(since.Add(-time.Minute)) {
				return nil
			}
			b, err := os.ReadFile(path)
			if err == nil && len(b) > 0 {
				parts = append(parts, newRecord(e.Name(), string(b[:min(len(b), maxRecord)]), fi.ModTime()))
			}
			return nil
		})
	}
	if len(parts) > 0 {
		return cutCrash(joinRecords(parts)), ""
	}
	if h.watchdogFired() {
		why = "; the hardware watchdog says that it reset the machine: the kernel hung"
	}
	backend := h.text("/sys/module/pstore/parameters/backend")
	if backend == "" || backend == "(null)" {
		return "", "no pstore backend is registered: this machine keeps nothing of a kernel that crashed (load ramoops or efi_pstore)" + why
	}
	return "", "the pstore backend " + backend + " recorded nothing: the kernel did not panic, panicked before the backend was loaded, or was reset" + why
}

// watchdogFired says whether a hardware watchdog ended the boot before this one, as far as its driver can tell.
func (h *Host) watchdogFired() bool {
	const cardReset = 0x20 // WDIOF_CARDRESET
	dogs, err := filepath.Glob(h.path("/sys/class/watchdog/watchdog*/bootstatus"))
	if err != nil {
		return false
	}
	for _, file := range dogs {
		b, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		if n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 0, 32); err == nil && n&cardReset != 0 {
			return true
		}
	}
	return false
}

func (h *Host) exists(p string) bool {
	_, err := os.Stat(h.path(p))
	return err == nil
}

// record is one file of pstore: a part of one crash's log. The first part is the newest end of the log.
type record struct {
	text  string
	crash int // counts crashes within a boot
	part  int
	at    time.Time
}

// header is the first line of a record: Panic#2 Part3.
var header = regexp.MustCompile(`^[A-Za-z ]+#(\d+) Part(\d+)\n`)

// number is how a backend counts its records in their names: dmesg-ramoops-0, dmesg-efi_pstore-170000000001001.
var number = regexp.MustCompile(`(\d+)(?:\.enc\.z)?$`)

func newRecord(name, text string, at time.Time) record {
	r := record{text: text, at: at}
	if m := header.FindStringSubmatch(text); m != nil {
		r.crash, _ = strconv.Atoi(m[1])
		r.part, _ = strconv.Atoi(m[2])
		r.text = text[len(m[0]):]
	} else if m := number.FindStringSubmatch(name); m != nil {
		r.part, _ = strconv.Atoi(m[1]) // out of range: 0, as good as any
	}
	return r
}

// joinRecords puts the parts of the last crash in the order in which they were written.
func joinRecords(rs []record) string {
	slices.SortStableFunc(rs, func(a, b record) int {
		return cmp.Or(cmp.Compare(a.crash, b.crash), -cmp.Compare(a.part, b.part), a.at.Compare(b.at))
	})
	last := rs[len(rs)-1].crash
	var b strings.Builder
	seen := map[string]bool{} // systemd-pstore keeps its parts and the whole beside each other
	for _, r := range rs {
		if r.crash != last || seen[r.text] {
			continue
		}
		seen[r.text] = true
		b.WriteString(r.text)
		if !strings.HasSuffix(r.text, "\n") {
			b.WriteByte('\n')
		}
	}
	return strings.ToValidUTF8(b.String(), "?")
}

// cutCrash keeps what is around the panic: some of what led there, and all that fits of what came after.
func cutCrash(text string) string {
	if len(text) <= maxCrash {
		return text
	}
	at := strings.LastIndex(text, "Kernel panic")
	if at < 0 {
		at = len(text)
	}
	from := max(0, min(at-maxCrash/2, len(text)-maxCrash))
	if nl := strings.IndexByte(text[from:], '\n'); from > 0 && nl >= 0 && nl < 1024 {
		from += nl + 1
	}
	return strings.ToValidUTF8(text[from:min(len(text), from+maxCrash)], "?")
}
