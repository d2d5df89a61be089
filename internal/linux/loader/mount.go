package loader

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Mount is one mounted file system.
type Mount struct {
	Device string // major:minor
	Point  string
	FS     string
	// ReadOnly is set where the mount or the file system below it is.
	ReadOnly bool
}

// Mounts lists what is mounted, in the order of mounting. root is the folder that everything is under.
func Mounts(root string) ([]Mount, error) {
	f, err := os.Open(filepath.Join(root, "proc/self/mountinfo"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var ms []Mount
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20) // overlays have long lines
	for lines.Scan() {
		m, err := parseMount(lines.Text())
		if err != nil {
			return nil, err
		}
		ms = append(ms, m)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read the mounts: %w", err)
	}
	return ms, nil
}

// MountOf returns the mount that dir is on: the deepest, and of several on one point the last.
func MountOf(root, dir string) (Mount, error) {
	ms, err := Mounts(root)
	if err != nil {
		return Mount{}, err
	}
	var best Mount
	for _, m := range ms {
		if (dir == m.Point || m.Point == "/" || strings.HasPrefix(dir, m.Point+"/")) && len(m.Point) >= len(best.Point) {
			best = m
		}
	}
	if best.Point == "" {
		return Mount{}, errors.New("no file system is mounted at /")
	}
	return best, nil
}

// parseMount reads one line of mountinfo: 36 35 98:0 /root /point rw,noatime opt:1 - ext4 /dev/x rw.
func parseMount(line string) (Mount, error) {
	left, right, ok := strings.Cut(line, " - ")
	l, r := strings.Fields(left), strings.Fields(right)
	if !ok || len(l) < 6 || len(r) < 2 {
		return Mount{}, fmt.Errorf("a line of mountinfo that is none: %.80q", line)
	}
	m := Mount{Device: l[2], Point: unoctal(l[4]), FS: r[0]}
	opts := l[5]
	if len(r) > 2 {
		opts += "," + r[2]
	}
	for o := range strings.SplitSeq(opts, ",") {
		m.ReadOnly = m.ReadOnly || o == "ro"
	}
	return m, nil
}

// unoctal undoes the kernel's \040 for a space.
func unoctal(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
