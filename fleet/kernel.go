package fleet

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strconv"
	"time"
)

// KernelID names a kernel for people: by default its uname -r.
type KernelID string

// Kernel is a release to run: the packages that install it and the uname -r that it must show.
type Kernel struct {
	ID      KernelID `json:"id"`
	Version string   `json:"version"` // of the packages: 6.12.117-1~deb12u1
	Release string   `json:"release"` // uname -r: 6.12.117+deb12-cloud-amd64
	Family  string   `json:"family"`  // OS family: debian
	Arch    string   `json:"arch"`    // as the packages name it: amd64
	Flavour string   `json:"flavour"` // cloud-amd64
	// Packages are fetched and installed in this order. Empty only for a kernel that a host had before Kernwave
	// knew it: it can be gone back to, where it is still installed.
	Packages []Package `json:"packages"`
	AddedAt  time.Time `json:"added_at"`
	AddedBy  string    `json:"added_by,omitempty"`
}

// Package is one file of the content-addressed store.
type Package struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Arch    string `json:"arch"`
	SHA256  string `json:"sha256"` // 64 hex digits; also its address in the store
	Size    int64  `json:"size"`   // bytes
}

// Checksum identifies what is installed, whatever it is called. An approval speaks for a checksum.
func (k Kernel) Checksum() string {
	ps := slices.Clone(k.Packages)
	slices.SortFunc(ps, func(a, b Package) int { return cmp.Compare(a.SHA256, b.SHA256) })
	h := sha256.New()
	h.Write([]byte(k.Release + "\x00"))
	for _, p := range ps {
		h.Write([]byte(p.SHA256 + "\x00" + strconv.FormatInt(p.Size, 10) + "\x00"))
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Fits says why the kernel cannot run on a machine with these facts; empty: it can.
func (k Kernel) Fits(f Facts) string {
	switch {
	case k.Family != f.OS.Family:
		return "the kernel is packaged for " + k.Family + ", the host needs " + orUnknown(f.OS.Family)
	case k.Arch != f.Arch:
		return "the kernel is for " + k.Arch + ", the host is " + orUnknown(f.Arch)
	case k.Flavour != f.Kernel.Flavour:
		return "the kernel's flavour is " + k.Flavour + ", the host runs " + orUnknown(f.Kernel.Flavour)
	}
	return ""
}

func orUnknown(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}
