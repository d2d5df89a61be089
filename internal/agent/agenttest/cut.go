package agenttest

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/kernwave/kernwave/internal/agent"
	"github.com/kernwave/kernwave/internal/agent/disk"
)

// Point is a place at which a process can be made to die: the n-th time (from 1) that it does something to its disk
// or its machine. "write journal 3", "rename obeyed.json 1", "ArmTrial 1".
type Point struct {
	What string
	Nth  int
}

func (p Point) String() string { return fmt.Sprintf("%s %d", p.What, p.Nth) }

// ParsePoint reads what [Point.String] prints.
func ParsePoint(s string) (Point, error) {
	what, nth, _ := cutLast(s)
	n, err := strconv.Atoi(nth)
	if err != nil || n < 1 || what == "" {
		return Point{}, fmt.Errorf("point %q: must be like %q", s, Point{"write journal", 3})
	}
	return Point{what, n}, nil
}

// Cut says where a process dies: Before, After, or Half way through a point (of a write, half is done).
type Cut struct {
	When string
	Point
}

// Any is a Point.What that counts them all.
const Any = "any"

// The values of Cut.When.
const (
	Before = "before"
	Half   = "half"
	After  = "after"
)

func (c Cut) String() string { return c.When + " " + c.Point.String() }

// ParseCut reads what [Cut.String] prints. An empty text is the zero Cut, which is never reached.
func ParseCut(s string) (c Cut, err error) {
	if s == "" {
		return Cut{}, nil
	}
	when, rest, _ := strings.Cut(s, " ")
	if when != Before && when != Half && when != After {
		return Cut{}, fmt.Errorf("cut %q: must begin with before, half or after", s)
	}
	c.When = when
	c.Point, err = ParsePoint(rest)
	return c, err
}

func cutLast(s string) (before, after string, ok bool) {
	i := strings.LastIndexByte(s, ' ')
	if i < 0 {
		return "", s, false
	}
	return s[:i], s[i+1:], true
}

// Cutter counts the points that an agent passes and ends it at one of them.
type Cutter struct {
	at   Cut
	die  func()
	seen func(Point)

	mu    sync.Mutex
	count map[string]int
}

// NewCutter ends the process at one point by die, which must not return. seen, if not nil, hears of every point as it
// is reached.
func NewCutter(at Cut, die func(), seen func(Point)) *Cutter {
	return &Cutter{at: at, die: die, seen: seen, count: map[string]int{}}
}

// pass does f, and dies around it if this is the point. half is what a death half way leaves behind; nil: what f had
// not begun.
func (c *Cutter) pass(what string, half func(), f func() error) error {
	c.mu.Lock()
	c.count[what]++
	c.count[Any]++
	p := Point{what, c.count[what]}
	here := c.at.Point == p || c.at.Point == Point{Any, c.count[Any]}
	if c.seen != nil {
		c.seen(p)
	}
	c.mu.Unlock()
	switch {
	case here && c.at.When == Before:
		c.die()
	case here && c.at.When == Half:
		if half != nil {
			half()
		}
		c.die()
	}
	err := f()
	if here && c.at.When == After {
		c.die()
	}
	return err
}

// nameOf is a file as points know it: an operation's journal by that word, others without what [disk.Replace] adds.
func nameOf(name string) string {
	base := strings.TrimSuffix(filepath.Base(name), ".new")
	if strings.HasSuffix(base, ".journal") {
		return "journal"
	}
	return base
}

// Disk is inner with a point at each operation that changes something.
func (c *Cutter) Disk(inner disk.FS) disk.FS { return cutDisk{inner, c} }

type cutDisk struct {
	disk.FS
	c *Cutter
}

func (d cutDisk) OpenAppend(name string) (f disk.File, err error) {
	err = d.c.pass("open "+nameOf(name), nil, func() error { f, err = d.FS.OpenAppend(name); return err })
	return cutFile{f, d.c, nameOf(name)}, err
}

func (d cutDisk) Create(name string, mode fs.FileMode) (f disk.File, err error) {
	err = d.c.pass("create "+nameOf(name), nil, func() error { f, err = d.FS.Create(name, mode); return err })
	return cutFile{f, d.c, nameOf(name)}, err
}

func (d cutDisk) Rename(from, to string) error {
	return d.c.pass("rename "+nameOf(to), nil, func() error { return d.FS.Rename(from, to) })
}

func (d cutDisk) Remove(name string) error {
	return d.c.pass("remove "+nameOf(name), nil, func() error { return d.FS.Remove(name) })
}

func (d cutDisk) SyncDir(dir string) error {
	return d.c.pass("syncdir "+filepath.Base(dir), nil, func() error { return d.FS.SyncDir(dir) })
}

type cutFile struct {
	disk.File
	c    *Cutter
	name string
}

func (f cutFile) Write(p []byte) (n int, err error) {
	half := func() { _, _ = f.File.Write(p[:len(p)/2]) } // it dies of it either way
	err = f.c.pass("write "+f.name, half, func() error { n, err = f.File.Write(p); return err })
	return n, err
}

func (f cutFile) Truncate(n int64) error {
	return f.c.pass("truncate "+f.name, nil, func() error { return f.File.Truncate(n) })
}

func (f cutFile) Sync() error {
	return f.c.pass("sync "+f.name, nil, f.File.Sync)
}

// System is inner with a point at each call that changes the machine.
func (c *Cutter) System(inner agent.System) agent.System { return cutSystem{inner, c} }

type cutSystem struct {
	agent.System
	c *Cutter
}
