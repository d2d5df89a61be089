package clitest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// Deb is a small Debian package to be built.
type Deb struct {
	Name, Version, Arch string
	Compression         string   // "", gz, xz, zst
	Files               []string // paths in data.tar, such as boot/vmlinuz-6.12.9
}

// Build makes the package's bytes, the way dpkg-deb does. It panics when it cannot: memory does not fail.
func (d Deb) Build() []byte {
	control := fmt.Sprintf("Package: %s\nVersion: %s\nArchitecture: %s\nMaintainer: nobody\nDescription: a test\n more of it\n", d.Name, d.Version, d.Arch)
	ext := ".tar"
	if d.Compression != "" {
		ext += "." + d.Compression
	}
	data := map[string]string{}
	for _, f := range d.Files {
		data[f] = "contents of " + f
	}
	var b bytes.Buffer
	b.WriteString("!<arch>\n")
	member(&b, "debian-binary", []byte("2.0\n"))
	member(&b, "control"+ext, d.tar([]string{"control"}, map[string]string{"control": control}))
	member(&b, "data"+ext, d.tar(d.Files, data))
	return b.Bytes()
}

func member(b *bytes.Buffer, name string, content []byte) {
	fmt.Fprintf(b, "%-16s%-12d%-6d%-6d%-8s%-10d`\n", name, 1700000000, 0, 0, "100644", len(content))
	b.Write(content)
	if len(content)%2 == 1 {
		b.WriteByte('\n')
	}
}

func (d Deb) tar(names []string, files map[string]string) []byte {
	var b bytes.Buffer
	var z io.WriteCloser
	var err error
	switch d.Compression {
	case "":
		z = plain{&b}
	case "gz":
		z = gzip.NewWriter(&b)
	case "xz":
		z, err = xz.NewWriter(&b)
	case "zst":
		z, err = zstd.NewWriter(&b, zstd.WithEncoderConcurrency(1))
	default:
		err = fmt.Errorf("unknown compression %q", d.Compression)
	}
	must(err)
	t := tar.NewWriter(z)
	must(t.WriteHeader(&tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o755}))
	for _, n := range names {
		must(t.WriteHeader(&tar.Header{Name: "./" + n, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(files[n]))}))
		_, err := io.WriteString(t, files[n])
		must(err)
	}
	must(t.Close())
	must(z.Close())
	return b.Bytes()
}

type plain struct{ io.Writer }

func (plain) Close() error { return nil }

func must(err error) {
	if err != nil {
		panic(err)
	}
}
