package lab

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// A Kernel is one Debian kernel package on disk.
type Kernel struct {
	Package string `json:"package"` // linux-image-6.12.9+deb12-cloud-amd64
	Version string `json:"version"` // of the package: 6.12.9-1~deb12u1
	Release string `json:"release"` // what `uname -r` says: 6.12.9+deb12-cloud-amd64
	Path    string `json:"path"`    // the .deb
	SHA256  string `json:"sha256"`
	Size    int64  `json:"size"`
	// Variant is what Repack did to it; empty for Debian's own.
	Variant string `json:"variant,omitempty"`
}

var cloudKernel = regexp.MustCompile(`^linux-image-((\d+\.\d+)[.\d]*(?:-\d+)?(?:\+[a-z0-9]+)?-cloud-amd64)$`)

// series returns the series of a kernel package, such as 6.12, and its uname -r. Meta packages have no release.
func series(pkg string) (series, release string, ok bool) {
	m := cloudKernel.FindStringSubmatch(pkg)
	if m == nil || strings.Count(m[1], ".") < 2 {
		return "", "", false
	}
	return m[2], m[1], true
}

// bySeries groups kernels by series, newest series first, oldest kernel first within one. Series with fewer than
// KernelsNeeded are left out, and of the others the newest KernelsWanted kernels stay.
func bySeries(ks []Kernel) [][]Kernel {
	groups := map[string][]Kernel{}
	for _, k := range ks {
		if s, release, ok := series(k.Package); ok {
			k.Release = release
			groups[s] = append(groups[s], k)
		}
	}
	var names []string
	for s, g := range groups {
		if len(g) >= KernelsNeeded {
			names = append(names, s)
		}
	}
	slices.SortFunc(names, func(a, b string) int { return compareReleases(b, a) })
	var out [][]Kernel
	for _, s := range names {
		g := groups[s]
		slices.SortFunc(g, func(a, b Kernel) int { return compareReleases(a.Release, b.Release) })
		out = append(out, g[max(0, len(g)-KernelsWanted):])
	}
	return out
}

var number = regexp.MustCompile(`\d+`)

// compareReleases orders kernel releases by the numbers in them.
func compareReleases(a, b string) int {
	na, nb := number.FindAllString(a, -1), number.FindAllString(b, -1)
	for i := range min(len(na), len(nb)) {
		x, _ := strconv.Atoi(na[i])
		y, _ := strconv.Atoi(nb[i])
		if c := cmp.Compare(x, y); c != 0 {
			return c
		}
	}
	return cmp.Or(cmp.Compare(len(na), len(nb)), strings.Compare(a, b))
}

// bootsFromNVMe says what is missing in a kernel's config for a guest without an initramfs.
func bootsFromNVMe(config string) error {
	for _, opt := range []string{"CONFIG_EXT4_FS", "CONFIG_BLK_DEV_NVME", "CONFIG_VIRTIO_CONSOLE", "CONFIG_SERIAL_8250_CONSOLE"} {
		if !strings.Contains(config, "\n"+opt+"=y\n") {
			return fmt.Errorf("%s is not built in", opt)
		}
	}
	return nil
}
