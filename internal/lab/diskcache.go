package lab

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/kernwave/kernwave/internal/lab/volatile"
)

// disk is a host's disk: a thin layer over the image, or a whole copy that is served with a volatile cache.
func (h *host) disk() string {
	if h.spec.FlushCounts {
		return filepath.Join(h.dir, "disk.raw")
	}
	return filepath.Join(h.dir, "disk.qcow2")
}

// makeDisk makes the disk from the image, or goes on with the one that is there.
func (h *host) makeDisk(ctx context.Context, image string) error {
	disk := h.disk()
	if _, err := os.Stat(disk); err != nil || !h.spec.KeepDisk {
		_ = os.Remove(h.serial())
		cmd := exec.Command(tool("qemu-img"), "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", image, disk)
		if h.spec.FlushCounts {
			cmd = exec.Command(tool("qemu-img"), "convert", "-O", "raw", image, disk)
		}
		if _, err := run(ctx, cmd); err != nil {
			return err
		}
		if err := h.makeVars(); err != nil {
			return err
		}
	}
	if !h.spec.FlushCounts {
		return nil
	}
	var err error
	h.cache, err = openCache(disk, filepath.Join(h.dir, "disk.sock"), h.spec.LossSeed)
	return err
}

// closeDisk ends the server of a disk with a volatile cache.
func (h *host) closeDisk() error {
	if h.cache == nil {
		return nil
	}
	return errors.Join(h.cache.server.Close(), h.cache.disk.Close())
}

// diskCache is a host's disk with a volatile cache, served to its QEMU.
type diskCache struct {
	disk   *volatile.Disk
	server *volatile.Server
	chance *rand.Rand // nil: a cut loses all that was not flushed
}

func openCache(disk, socket string, seed uint64) (*diskCache, error) {
	d, err := volatile.Open(disk)
	if err != nil {
		return nil, err
	}
	s, err := volatile.Serve(socket, d)
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	c := &diskCache{disk: d, server: s}
	if seed != 0 {
		c.chance = rand.New(rand.NewPCG(seed, 0))
	}
	return c, nil
}

// cut loses what was not flushed. QEMU is dead by now, but what it sent last may still be on its way: it was never
// acknowledged, so the disk may do with it as it likes.
func (c *diskCache) cut() (string, error) {
	l, err := c.disk.Cut(c.chance)
	st := c.disk.Stats()
	return fmt.Sprintf("after %d flushes and %d forced writes, of the writes since then %d were lost, %d kept, %d torn",
		st.Flushes, st.Forced+st.Commits, l.Lost, l.Kept, l.Torn), err
}
