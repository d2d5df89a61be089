package deb

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"
)

const arMagic = "!<arch>\n"

// maxMember bounds what one ar member may claim to be.
const maxMember = 4 << 30

// arReader reads the outer archive of a package, one member after another.
type arReader struct {
	r    *bufio.Reader
	left int64 // of the current member
	pad  int64 // one byte after a member of odd size
}

type arMember struct {
	name string
	size int64
}

func newArReader(r io.Reader) (*arReader, error) {
	a := &arReader{r: bufio.NewReaderSize(r, 1<<16)}
	magic := make([]byte, len(arMagic))
	if _, err := io.ReadFull(a.r, magic); err != nil {
		return nil, fmt.Errorf("%w: too short", ErrNotADeb)
	}
	if string(magic) != arMagic {
		return nil, fmt.Errorf("%w: it does not begin with %q", ErrNotADeb, strings.TrimSpace(arMagic))
	}
	return a, nil
}

// next skips what is left of the current member and reads the next header. io.EOF: there is none.
func (a *arReader) next() (arMember, error) {
	if skip := a.left + a.pad; skip > 0 {
		if _, err := io.CopyN(io.Discard, a.r, skip); err != nil && !(err == io.EOF && a.left == 0) {
			return arMember{}, io.ErrUnexpectedEOF
		}
	}
	a.left, a.pad = 0, 0
	head := make([]byte, 60) // name 16, time 12, owner 6, group 6, mode 8, size 10, end 2
	n, err := io.ReadFull(a.r, head)
	if n == 0 {
		return arMember{}, io.EOF
	}
	if err != nil {
		return arMember{}, io.ErrUnexpectedEOF
	}
	if string(head[58:]) != "`\n" {
		return arMember{}, fmt.Errorf("%w: damaged member header", ErrNotADeb)
	}
	size, err := strconv.ParseUint(strings.TrimRight(string(head[48:58]), " "), 10, 63)
	if err != nil || size > maxMember {
		return arMember{}, fmt.Errorf("%w: impossible member size %q", ErrNotADeb, head[48:58])
	}
	m := arMember{name: strings.TrimSuffix(strings.TrimRight(string(head[:16]), " "), "/"), size: int64(size)}
	a.left, a.pad = m.size, m.size%2
	return m, nil
}

// Read reads from the current member.
func (a *arReader) Read(p []byte) (int, error) {
	if a.left == 0 {
		return 0, io.EOF
	}
	if int64(len(p)) > a.left {
		p = p[:a.left]
	}
	n, err := a.r.Read(p)
	a.left -= int64(n)
	if err == io.EOF && a.left > 0 {
		err = io.ErrUnexpectedEOF
	} else if err == io.EOF {
		err = nil
	}
	return n, err
}
