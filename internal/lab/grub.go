package lab

import (
	"encoding/binary"
	"fmt"
	"os"
)

const (
	sectorSize    = 512
	biosBootStart = 2048 // sectors; the partition that holds GRUB's core image
	biosBootSize  = 2048
	rootStart     = biosBootStart + biosBootSize
)

// installGRUB does what grub-install does for BIOS and GPT, on a plain file: grub-install itself wants a block device
// whose partitions the build machine's kernel can see, which needs loop devices, and a kernel that scans them.
//
// Offsets are those of GRUB's boot.S (0x5c: where the core image begins) and diskboot.S (the block list at the end of
// the core image's first sector: where the rest is, and how long).
func installGRUB(disk, bootImg, coreImg string) error {
	boot, err := os.ReadFile(bootImg)
	if err != nil {
		return err
	}
	core, err := os.ReadFile(coreImg)
	if err != nil {
		return err
	}
	if len(boot) != sectorSize {
		return fmt.Errorf("%s has %d bytes, not one sector", bootImg, len(boot))
	}
	if pad := len(core) % sectorSize; pad != 0 {
		core = append(core, make([]byte, sectorSize-pad)...)
	}
	if len(core) > biosBootSize*sectorSize {
		return fmt.Errorf("GRUB's core image has %d bytes, the partition for it %d", len(core), biosBootSize*sectorSize)
	}
	binary.LittleEndian.PutUint64(boot[0x5c:], biosBootStart)
	binary.LittleEndian.PutUint64(core[0x1f4:], biosBootStart+1)
	binary.LittleEndian.PutUint16(core[0x1fc:], uint16(len(core)/sectorSize-1))
	f, err := os.OpenFile(disk, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.WriteAt(boot[:440], 0); err != nil { // the partition table's part of the sector stays
		return err
	}
	if _, err := f.WriteAt(core, biosBootStart*sectorSize); err != nil {
		return err
	}
	return f.Close()
}
