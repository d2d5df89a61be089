package lab

import (
	"bytes"
	"fmt"
)

// initramfs is a cpio archive (newc, as the kernel reads it) under construction.
type initramfs struct {
	buf   bytes.Buffer
	inode int
}

const (
	modeDir  = 0o040755
	modeFile = 0o100755
)

// add appends one entry. Parents come first.
func (a *initramfs) add(name string, mode int, data []byte) {
	a.inode++
	fmt.Fprintf(&a.buf, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
		a.inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name)+1, 0)
	a.buf.WriteString(name)
	a.buf.WriteByte(0)
	a.pad()
	a.buf.Write(data)
	a.pad()
}

func (a *initramfs) pad() {
	for a.buf.Len()%4 != 0 {
		a.buf.WriteByte(0)
	}
}

func (a *initramfs) bytes() []byte {
	a.inode = -1
	a.add("TRAILER!!!", 0, nil)
	return a.buf.Bytes()
}
