package cli

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/cli/deb"
)

// readKernel reads the packages of one kernel and says what they install. Exactly one of them holds a kernel image.
// expected, when not empty, is the release that it must be.
func readKernel(ctx context.Context, files []string, expected string) (fleet.Kernel, error) {
	k := fleet.Kernel{Family: "debian"} // .deb is the only format so far
	var image string                    // the file that holds it
	seen := map[string]string{}
	for _, file := range files {
		p, info, err := readPackage(ctx, file)
		if err != nil {
			return fleet.Kernel{}, err
		}
		if before := seen[p.SHA256]; before != "" {
			return fleet.Kernel{}, fileError(file, fmt.Errorf("it is the same package as %s", before), "name each package once")
		}
		seen[p.SHA256] = file
		k.Packages = append(k.Packages, p)
		switch {
		case len(info.Kernels) == 0:
			continue
		case len(info.Kernels) > 1:
			return fleet.Kernel{}, fileError(file, fmt.Errorf("it holds several kernels: %s", strings.Join(info.Kernels, ", ")),
				"a kernel to roll must come in a package of its own")
		case image != "":
			return fleet.Kernel{}, fileError(file, fmt.Errorf("it holds kernel %s, and %s holds %s", info.Kernels[0], image, k.Release),
				"add one kernel at a time")
		}
		image = file
		k.Release, k.Version, k.Arch = info.Kernels[0], info.Version, info.Arch
		k.Flavour = fleet.FlavourOf(k.Release)
	}
	if image == "" {
		return fleet.Kernel{}, fileError(strings.Join(files, ", "), errors.New("no kernel image in it (boot/vmlinuz-…)"),
			"add the linux-image-RELEASE package itself; packages such as linux-image-amd64 only depend on it")
	}
	if expected != "" && expected != k.Release {
		return fleet.Kernel{}, fileError(image, fmt.Errorf("it holds kernel %s, not %s", k.Release, expected), "name the right file, or leave --release out")
	}
	for i, p := range k.Packages {
		if p.Arch != k.Arch && p.Arch != "all" {
			return fleet.Kernel{}, fileError(files[i], fmt.Errorf("it is for %s, the kernel is for %s", p.Arch, k.Arch), "name packages of one architecture")
		}
	}
	return k, nil
}

// maxPackage bounds one package. Kernel images are below 200 MB; debug symbols, which nobody rolls, reach 1 GB.
const maxPackage = 1 << 30

// readPackage reads one file twice: for what it is, and for its sum.
func readPackage(ctx context.Context, file string) (fleet.Package, deb.Info, error) {
	f, err := os.Open(file)
	if err != nil {
		return fleet.Package{}, deb.Info{}, fileError("", plainPathError(err), "check the file's name")
	}
	defer f.Close()
	st, err := f.Stat()
	switch {
	case err != nil:
		return fleet.Package{}, deb.Info{}, fileError("", plainPathError(err), "check the file")
	case !st.Mode().IsRegular():
		return fleet.Package{}, deb.Info{}, fileError(file, errors.New("it is not a file"), "name a .deb file")
	case st.Size() > maxPackage:
		return fleet.Package{}, deb.Info{}, fileError(file, fmt.Errorf("it has %s, at most %s are allowed", sizeText(st.Size()), sizeText(maxPackage)),
			"leave out packages with debug symbols")
	}
	info, err := deb.Read(f)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		// Of the file: whoever asks further up must not take it for the end of a connection.
		err = errors.New(deb.ErrNotADeb.Error() + ": the file ends in the middle")
	}
	if err != nil {
		return fleet.Package{}, deb.Info{}, fileError(file, err, "fetch the package again, and check that it is a .deb file")
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return fleet.Package{}, deb.Info{}, fileError("", plainPathError(err), "check the file")
	}
	h := sha256.New()
	n, err := io.Copy(h, bufio.NewReaderSize(&contextReader{ctx: ctx, r: f}, 1<<20))
	if err != nil {
		return fleet.Package{}, deb.Info{}, fileError("", plainPathError(err), "check the file")
	}
	return fleet.Package{Name: info.Name, Version: info.Version, Arch: info.Arch, SHA256: hex.EncodeToString(h.Sum(nil)), Size: n}, info, nil
}

func fileError(file string, err error, next string) error {
	op := "read package"
	if file != "" {
		op += " " + file
	}
	return &fleet.Error{Op: op, Err: err, Next: next}
}

// contextReader stops reading when the command is interrupted.
type contextReader struct {
	ctx context.Context //nolint:containedctx // lives for one copy
	r   io.Reader
}

func (c *contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
