package lab

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/kernwave/kernwave/fleet"
)

// The recipe's source is part of the cache keys: whoever changes it gets a new image.
var (
	//go:embed rootfs.go
	rootfsSource string
	//go:embed disk.go
	diskSource string
	//go:embed grub.go
	grubSource string
	//go:embed esp.go
	espSource string
)

// indexAge is how long the choice of kernels is kept before the archive is asked again.
const indexAge = 24 * time.Hour

// Images is what Prepare made: a bootable image and the kernels that it can be updated to. It is safe for concurrent use.
type Images struct {
	dir     string // of the image
	cache   string
	suite   string
	kernels []Kernel
	accel   string // "kvm" or "tcg"
	steps   *steps
}

// Kernels returns the archive's kernels of one series, oldest first; the first is Base. There are KernelsNeeded at least.
func (im *Images) Kernels() []Kernel { return append([]Kernel(nil), im.kernels...) }

// Base is the kernel that the image runs.
func (im *Images) Base() Kernel { return im.kernels[0] }

// Suite is the guest's Debian release, which is also the build machine's.
func (im *Images) Suite() string { return im.suite }

// Accel is "kvm" or, where that does not really work, "tcg".
func (im *Images) Accel() string { return im.accel }

func (im *Images) disk(l Loader) string { return filepath.Join(im.dir, imageFile(l)) }

// Prepare checks the tools, chooses and downloads kernels, and builds the image, or finds all that in the cache. It
// needs root for the first build only. It installs nothing; what is missing is in the error.
func Prepare(ctx context.Context, cfg Config) (*Images, error) {
	if err := checkTools(); err != nil {
		return nil, err
	}
	if cfg.CacheDir == "" {
		cfg.CacheDir = DefaultCacheDir()
	}
	cache, err := filepath.Abs(cfg.CacheDir)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return nil, err
	}
	unlock, err := lockFile(ctx, filepath.Join(cache, "lock"))
	if err != nil {
		return nil, err
	}
	defer unlock()

	im := &Images{cache: cache, steps: &steps{to: cfg.Progress}}
	a, err := openArchive(ctx, filepath.Join(cache, "apt"))
	if err != nil {
		return nil, err
	}
	im.suite = a.suite
	if err := im.steps.run("", "choose kernels", func() (string, error) {
		im.kernels, err = chooseKernels(ctx, a, cache)
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("%s to %s", im.Base().Release, im.kernels[len(im.kernels)-1].Release), nil
	}); err != nil {
		return nil, err
	}
	if err := im.build(ctx, a); err != nil {
		return nil, err
	}
	switch cfg.Accel {
	case "kvm", "tcg":
		im.accel = cfg.Accel
	case "":
		err = im.steps.run("", "try KVM", func() (note string, err error) {
			im.accel, note, err = probeKVM(ctx, cache, im.Base().SHA256, filepath.Join(im.dir, "vmlinuz"))
			return note, err
		})
	default:
		err = &fleet.Error{Op: "choose accelerator", Err: fmt.Errorf("%q is neither kvm nor tcg", cfg.Accel)}
	}
	return im, err
}

// build finds or makes the image, in two steps, because a change of the recipe's second half is frequent and cheap.
func (im *Images) build(ctx context.Context, a *archive) error {
	rootKey := hashOf(rootfsSource, a.suite, strings.Join(a.lines, "\n"))
	key := hashOf(rootKey, diskSource, grubSource, espSource, guestHash(), im.Base().SHA256)
	images := filepath.Join(im.cache, "images")
	im.dir = filepath.Join(images, key)
	if now := time.Now(); os.Chtimes(im.dir, now, now) == nil { // it is there, and in use
		return nil
	}
	for _, old := range []string{"images", "roots", "repacked"} {
		if err := dropUnused(filepath.Join(im.cache, old)); err != nil {
			return err
		}
	}
	if os.Geteuid() != 0 {
		return &fleet.Error{Op: "build image", Err: fmt.Errorf("unpacking Debian needs root"), Next: "run it once as root; later runs use the cache in " + im.cache}
	}
	roots := filepath.Join(im.cache, "roots")
	if _, err := os.Stat(filepath.Join(roots, rootKey)); err != nil {
		if err := im.steps.run("", "bootstrap Debian "+a.suite, func() (string, error) {
			_, err := buildDir(roots, rootKey, func(tmp string) error { return bootstrap(ctx, a, tmp) })
			return "", err
		}); err != nil {
			return err
		}
	}
	return im.steps.run("", "build image", func() (string, error) {
		_, err := buildDir(images, key, func(tmp string) error {
			return buildDisk(ctx, filepath.Join(roots, rootKey, "root.tar"), im.Base(), newDiskIDs(key), tmp)
		})
		return "", err
	})
}

// chooseKernels takes the newest kernels of the newest series that a guest without an initramfs can boot. The choice
// is remembered for a day: the kernels stay on disk, so it stays good when the archive drops one.
func chooseKernels(ctx context.Context, a *archive, cache string) ([]Kernel, error) {
	pool := filepath.Join(cache, "kernels")
	index := filepath.Join(cache, "kernels.json")
	key := hashOf(a.suite, strings.Join(a.lines, "\n"))
	var known struct {
		Key     string    `json:"key"`
		At      time.Time `json:"at"`
		Kernels []Kernel  `json:"kernels"`
	}
	if data, err := os.ReadFile(index); err == nil && json.Unmarshal(data, &known) == nil && known.Key == key && len(known.Kernels) >= KernelsNeeded {
		if age := time.Since(known.At); age > 0 && age < indexAge && a.fetch(ctx, pool, known.Kernels) == nil {
			return known.Kernels, nil
		}
	}
	all, err := a.kernels(ctx)
	if err != nil {
		return nil, err
	}
	var why []string
	for _, ks := range bySeries(all) {
		if err := a.fetch(ctx, pool, ks); err != nil {
			return nil, err
		}
		config, err := readFromDeb(ctx, ks[0].Path, "./boot/config-"+ks[0].Release)
		if err != nil {
			return nil, err
		}
		if err := bootsFromNVMe(string(config)); err != nil {
			why = append(why, ks[0].Release+": "+err.Error())
			continue
		}
		known.Key, known.At, known.Kernels = key, time.Now(), ks
		data, err := json.MarshalIndent(known, "", "  ")
		if err != nil {
			return nil, err
		}
		return ks, writeFile(index, data, 0o644)
	}
	return nil, &fleet.Error{Op: "choose kernels", Err: fmt.Errorf("no series of cloud kernels has %d versions that boot from NVMe without an initramfs (%d packages seen) %s",
		KernelsNeeded, len(all), strings.Join(why, "; ")), Next: "add the security archive of " + a.suite + " to the apt sources"}
}

// readFromDeb returns one file of a package.
func readFromDeb(ctx context.Context, deb, name string) ([]byte, error) {
	out, err := run(ctx, exec.Command("sh", "-c", `dpkg-deb --fsys-tarfile "$1" | tar -xOf - "$2"`, "sh", deb, name))
	return []byte(out), err
}
