package deb

import (
	"archive/tar"
	"compress/gzip"
	"fmt"
	"io"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// maxWindow bounds the memory that a zstd member may ask for. (xz states its window too; its decoder touches only what
// the data fills.)
const maxWindow = 128 << 20

// openTar opens control.tar.* or data.tar.*, with at most limit bytes behind it. done releases the decoder.
func openTar(r io.Reader, name string, limit int64) (tr *tar.Reader, done func(), err error) {
	done = func() {}
	var plain io.Reader
	_, ext, _ := strings.Cut(name, ".tar")
	switch ext {
	case "":
		plain = r
	case ".gz":
		plain, err = gzip.NewReader(r)
	case ".xz":
		plain, err = xz.ReaderConfig{DictCap: 1 << 16, SingleStream: true}.NewReader(r)
	case ".zst":
		var z *zstd.Decoder
		z, err = zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxWindow))
		if err == nil {
			plain, done = z, z.Close
		}
	default:
		return nil, done, fmt.Errorf("%s is compressed with %q; gz, xz and zst are known", name, strings.TrimPrefix(ext, "."))
	}
	if err != nil {
		return nil, func() {}, fmt.Errorf("unpack %s: %w", name, err)
	}
	return tar.NewReader(&limited{r: plain, left: limit, name: name}), done, nil
}

// limited fails, instead of ending, where the limit is: a cut archive must not look like a whole one.
type limited struct {
	r    io.Reader
	left int64
	name string
}

func (l *limited) Read(p []byte) (int, error) {
	if l.left <= 0 {
		return 0, fmt.Errorf("%s is larger than allowed once unpacked", l.name)
	}
	if int64(len(p)) > l.left {
		p = p[:l.left]
	}
	n, err := l.r.Read(p)
	l.left -= int64(n)
	return n, err
}
