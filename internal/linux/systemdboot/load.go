package systemdboot

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/kernwave/kernwave/internal/linux/efivar"
	"github.com/kernwave/kernwave/internal/linux/loader"
)

const (
	entriesDir  = "/loader/entries"
	loaderConf  = "/loader/loader.conf"
	ukiDir      = "/EFI/Linux"
	cmdlineFile = "/etc/kernel/cmdline"
)

// maxEntries bounds how many entries of one partition are read.
const maxEntries = 1000

// load reads everything anew.
func (d *Driver) load() (state, error) {
	var s state
	var err error
	if s.readOnly, err = d.vars.Usable(); err != nil {
		return s, err
	}
	for name, to := range map[string]*string{
		efivar.Info: &s.info, efivar.Default: &s.byDefault, efivar.OneShot: &s.oneShot, efivar.Selected: &s.selected, efivar.Timeout: &s.timeout, efivar.TimeoutOneShot: &s.timeoutOne,
		efivar.LastBooted: &s.lastBooted, efivar.PartUUID: &s.bootedFrom,
	} {
		if *to, err = d.vars.Text(name); err != nil {
			return s, err
		}
	}
	ids, err := d.vars.Texts(efivar.Entries)
	if err != nil {
		return s, err
	}
	s.auto = slices.DeleteFunc(ids, func(id string) bool { return !strings.HasPrefix(id, "auto-") })
	if s.esp, s.parts, err = partitions(d.root, s.bootedFrom); err != nil {
		return s, err
	}
	if s.conf, err = d.readLines(d.local(s.esp, loaderConf)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return s, fmt.Errorf("read %s: %w", s.esp.Point+loaderConf, err)
	}
	for _, p := range s.parts {
		if err := d.loadEntries(&s, p); err != nil {
			return s, err
		}
	}
	slices.SortStableFunc(s.entries, compareEntries)
	id, err := os.ReadFile(filepath.Join(d.root, "etc/machine-id"))
	if err == nil {
		s.machineID = strings.TrimSpace(string(id))
	}
	for _, f := range []string{cmdlineFile, "/usr/lib/kernel/cmdline"} {
		if _, err := os.Stat(filepath.Join(d.root, f)); err == nil {
			s.cmdlineSet = true
		}
	}
	s.canForget, s.forgetWhy = d.rememberedOneShot(s)
	return s, nil
}

func (d *Driver) readLines(path string) (Lines, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxEntry+1))
	if err != nil {
		return nil, err
	}
	return ParseLines(b)
}

// loadEntries reads the entries of one partition.
func (d *Driver) loadEntries(s *state, p *Partition) error {
	names, err := d.list(p, entriesDir, ".conf")
	if err != nil {
		return err
	}
	for _, name := range names {
		e := d.readEntry(p, name)
		if e.Why == "" {
			s.entries = append(s.entries, e)
		} else {
			s.hidden = append(s.hidden, e)
		}
	}
	if names, err = d.list(p, ukiDir, ".efi"); err != nil {
		return err
	}
	for _, name := range names {
		e := &Entry{ID: name, Tries: -1, Part: p, Path: p.Point + ukiDir + "/" + name}
		e.Release = ukiRelease(d.local(p, ukiDir+"/"+name))
		e.version, e.sortKey = e.Release, "linux" // what is inside would tell; it decides only about what is refused anyway
		if _, left, _, ok := counter(name); ok {
			e.Tries = left
		}
		s.entries = append(s.entries, e)
	}
	return nil
}

// list names the files of a folder that the loader looks at.
func (d *Driver) list(p *Partition, dir, suffix string) ([]string, error) {
	found, err := os.ReadDir(d.local(p, dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", p.Point+dir, err)
	}
	var names []string
	for _, f := range found {
		n := strings.ToLower(f.Name())
		if f.Type().IsRegular() && strings.HasSuffix(n, suffix) && n[0] != '.' && !strings.HasPrefix(n, "auto-") {
			names = append(names, f.Name())
		}
	}
	if len(names) > maxEntries {
		return nil, fmt.Errorf("list %s: %d entries, at most %d are read", p.Point+dir, len(names), maxEntries)
	}
	return names, nil
}

// readEntry reads one type 1 entry. What is wrong with it is in Why: the loader leaves such entries out, and so do we.
func (d *Driver) readEntry(p *Partition, name string) *Entry {
	e := &Entry{ID: name, Tries: -1, Part: p, Path: p.Point + entriesDir + "/" + name, Lines: Lines{}}
	ls, err := d.readLines(d.local(p, entriesDir+"/"+name))
	if err != nil {
		e.Why = err.Error()
		return e
	}
	if ls != nil {
		e.Lines = ls
	}
	e.version, e.sortKey, e.machineID = ls.last("version"), ls.last("sort-key"), ls.last("machine-id")
	if _, left, _, ok := counter(name); ok {
		e.Tries = left
	}
	program := ls.last("linux")
	if program == "" {
		program = ls.last("efi")
	}
	if program == "" {
		e.Why = "it names neither linux nor efi"
		return e
	}
	if arch := ls.last("architecture"); arch != "" && !strings.EqualFold(arch, efiArch) {
		e.Why = "it is for the architecture " + arch
		return e
	}
	if _, err := os.Stat(d.local(p, program)); err != nil {
		e.Why = "its " + program + " is not there"
		return e
	}
	if ls.last("linux") == "" {
		return e
	}
	if e.Release, err = loader.ImageRelease(d.local(p, program)); err != nil || e.Release == "" {
		e.Release = e.version // a kernel of another make, whose file does not say
	}
	return e
}

// efiArch is this machine's architecture as entries name it.
var efiArch = map[string]string{"amd64": "x64", "386": "ia32", "arm64": "aa64", "arm": "arm", "riscv64": "riscv64", "loong64": "loongarch64"}[runtime.GOARCH]
