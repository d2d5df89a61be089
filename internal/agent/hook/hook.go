// Package hook reads and runs the operator's programs: how an application
// leaves service (drain), returns (undrain), says that it is back (ready), and
// judges a kernel on trial (check). One file of /etc/kernwave/hooks.d is one
// application:
//
//	drain:   {argv: [/usr/local/bin/lb, remove, --wait], timeout: 2m}
//	undrain: {argv: [/usr/local/bin/lb, add]}
//	ready:   {argv: [curl, -fsS, http://127.0.0.1:8080/health], timeout: 5s}
//
// Exit code 0 is yes, everything else is no. Programs may be run again after a
// crash, so they must be repeatable.
package hook

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/kernwave/kernwave/internal/agent/conf"
)

// Kind is when a program runs.
type Kind string

const (
	Drain   Kind = "drain"
	Undrain Kind = "undrain"
	Ready   Kind = "ready"
	Check   Kind = "check"
)

const (
	// DefaultTimeout is a program's, where its file names none.
	DefaultTimeout = 30 * time.Second
	// MaxTimeout bounds a program: a drain that needs longer than an hour needs a person, not a budget slot.
	MaxTimeout = time.Hour
	// maxFiles bounds the directory.
	maxFiles = 200
)

// Program is one command of one application.
type Program struct {
	App     string // the file's name without .yaml
	Kind    Kind
	Argv    []string
	Timeout time.Duration
}

// Name is how people call it: "redis drain".
func (p Program) Name() string { return p.App + " " + string(p.Kind) }

// Command is the program as one would type it into a shell.
func (p Program) Command() string {
	words := make([]string, len(p.Argv))
	for i, a := range p.Argv {
		words[i] = a
		if a == "" || strings.Trim(a, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:=@%+,") != "" {
			words[i] = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
		}
	}
	return strings.Join(words, " ")
}

// Set is every application's programs, by name of the file.
type Set struct {
	programs []Program
}

// Of lists the programs of a kind in the order in which they run: by name of the file, undrain backwards.
func (s Set) Of(k Kind) []Program {
	var out []Program
	for _, p := range s.programs {
		if p.Kind == k {
			out = append(out, p)
		}
	}
	if k == Undrain {
		slices.Reverse(out)
	}
	return out
}

// NewSet is a Set of the programs, for those who have no directory.
func NewSet(ps ...Program) Set { return Set{programs: ps} }

// Load reads every *.yaml of dir; a missing directory holds none. The error names every mistake in every file, with
// its line; the Set is then empty.
func Load(dir string) (Set, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return Set{}, nil
	}
	if err != nil {
		return Set{}, fmt.Errorf("read hooks: %w", err)
	}
	var s Set
	var errs []error
	files := 0
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".yaml") || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		if files++; files > maxFiles {
			errs = append(errs, fmt.Errorf("%s: more than %d files", dir, maxFiles))
			break
		}
		name := filepath.Join(dir, e.Name())
		data, err := os.ReadFile(name)
		if err != nil {
			errs = append(errs, fmt.Errorf("read hooks: %w", err))
			continue
		}
		ps, err := Parse(name, data)
		s.programs = append(s.programs, ps...)
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return Set{}, err
	}
	return s, nil
}

// Parse reads one application's file.
func Parse(name string, data []byte) ([]Program, error) {
	doc := conf.Parse(name, data)
	app := strings.TrimSuffix(filepath.Base(name), ".yaml")
	var ps []Program
	for _, k := range []Kind{Drain, Undrain, Ready, Check} {
		if !doc.Has(string(k)) {
			continue
		}
		m := doc.Map(string(k))
		p := Program{App: app, Kind: k, Argv: m.Strings("argv"), Timeout: m.Duration("timeout")}
		switch {
		case !m.Has("argv"):
			doc.Mistake(string(k), "argv is missing: the program and its arguments, like [systemctl, stop, app]")
		case len(p.Argv) == 0 || p.Argv[0] == "":
			m.Mistake("argv", "names no program")
		case slices.ContainsFunc(p.Argv, func(a string) bool { return strings.ContainsRune(a, 0) }):
			m.Mistake("argv", "holds a zero byte")
		}
		switch {
		case p.Timeout < 0 || p.Timeout > MaxTimeout:
			m.Mistake("timeout", "%s is outside 1ms to %s", p.Timeout, MaxTimeout)
		case p.Timeout == 0:
			p.Timeout = DefaultTimeout
		}
		ps = append(ps, p)
	}
	if doc.Has(string(Drain)) && !doc.Has(string(Undrain)) {
		doc.Mistake(string(Drain), "there is no undrain: say how the application returns")
	}
	if err := doc.Err(); err != nil {
		return nil, err
	}
	return ps, nil
}
