// Package script makes commands out of programs that operators write: a bundle is a manifest (what the command is called,
// takes, may do and may cost) and a program in Starlark. Bundles are checked, tested against a throwaway server, shadowed
// on a real node, promoted and rolled back while the gateway runs; calls that run go on with the version they began with.
//
// A program runs in a child process with hard limits on time, memory, output and system calls. It has no sockets: it asks
// the gateway, which asks the nodes, and only what the manifest allows. It never writes: it makes a [Plan], a list of
// writes, that the gateway carries out after the program has ended, so that a dry run is the same run with that last step
// left out, and that a second person approves by its hash.
//
// The package never runs operators' code in the gateway's own process, not even to look for mistakes in it.
//
//	func main() {
//		script.RunIfChild() // the gateway starts itself again for each run
//		…
//	}
package script

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// The two files of a bundle.
const (
	manifestFile = "manifest.yaml"
	programFile  = "command.star"
)

// maxFile bounds each file of a bundle.
const maxFile = 256 << 10

// Bundle is one version of an operator's command.
type Bundle struct {
	ManifestText, ProgramText []byte
	Manifest                  Manifest
	// Hash is the version: SHA-256 over both files, in hexadecimal.
	Hash string
}

// ReadDir reads a bundle from a folder.
func ReadDir(dir string) (*Bundle, error) {
	files := map[string][]byte{}
	for _, name := range []string{manifestFile, programFile} {
		f, err := os.Open(filepath.Join(dir, name))
		if err != nil {
			return nil, fmt.Errorf("a bundle is a folder with %s and %s: %w", manifestFile, programFile, err)
		}
		b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
		err = errors.Join(err, f.Close())
		if err != nil {
			return nil, err
		}
		files[name] = b
	}
	return newBundle(files)
}

// ReadTar reads a bundle from a tar archive of such a folder, as CACHE.CMD PUT takes it. Files of other names are refused:
// what is not read must not look as if it were.
func ReadTar(b []byte) (*Bundle, error) {
	files := map[string][]byte{}
	r := tar.NewReader(bytes.NewReader(b))
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("the bundle is no tar archive (tar -C FOLDER -c %s %s): %w", manifestFile, programFile, err)
		}
		if h.Typeflag == tar.TypeDir {
			continue
		}
		name := path.Base(h.Name)
		if h.Typeflag != tar.TypeReg || name != manifestFile && name != programFile || files[name] != nil {
			return nil, fmt.Errorf("the bundle holds %q: it may hold %s and %s, once each", h.Name, manifestFile, programFile)
		}
		if files[name], err = io.ReadAll(io.LimitReader(r, maxFile+1)); err != nil {
			return nil, fmt.Errorf("the bundle cannot be read: %w", err)
		}
	}
	for _, name := range []string{manifestFile, programFile} {
		if files[name] == nil {
			return nil, fmt.Errorf("the bundle lacks %s", name)
		}
	}
	return newBundle(files)
}

// Tar is the archive that ReadTar reads.
func (b *Bundle) Tar() []byte {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, f := range []struct {
		name string
		text []byte
	}{{manifestFile, b.ManifestText}, {programFile, b.ProgramText}} {
		_ = w.WriteHeader(&tar.Header{Name: f.name, Mode: 0o644, Size: int64(len(f.text))}) // a buffer does not fail
		_, _ = w.Write(f.text)
	}
	_ = w.Close()
	return out.Bytes()
}

func newBundle(files map[string][]byte) (*Bundle, error) {
	b := &Bundle{ManifestText: files[manifestFile], ProgramText: files[programFile]}
	h := sha256.New()
	for _, name := range []string{manifestFile, programFile} {
		if len(files[name]) > maxFile {
			return nil, fmt.Errorf("%s has more than %d bytes", name, maxFile)
		}
		fmt.Fprintf(h, "%s %d\n", name, len(files[name]))
		h.Write(files[name])
	}
	b.Hash = hex.EncodeToString(h.Sum(nil))
	var err error
	b.Manifest, err = ParseManifest(b.ManifestText)
	return b, err
}

// Short is the version as people read it.
func (b *Bundle) Short() string { return b.Hash[:12] }

// Findings are all mistakes of a bundle at once, each with its file and line.
type Findings []string

func (f Findings) Error() string { return strings.Join(f, "; ") }
