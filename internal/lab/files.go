package lab

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"github.com/kernwave/kernwave/fleet"
)

// A File is something to put into a host. Content, Source or Link says what it is.
type File struct {
	Path    string      // absolute, in the host
	Mode    os.FileMode // permission bits; zero means 0644, or those of Source
	Content []byte
	Source  string // a file of the build machine
	Link    string // target of a symbolic link; payload only
}

func (f File) read() ([]byte, os.FileMode, error) {
	data, mode := f.Content, f.Mode
	if f.Source != "" {
		src, err := os.Open(f.Source)
		if err != nil {
			return nil, 0, err
		}
		defer src.Close()
		st, err := src.Stat()
		if err != nil {
			return nil, 0, err
		}
		if mode == 0 {
			mode = st.Mode().Perm()
		}
		if data, err = io.ReadAll(src); err != nil {
			return nil, 0, err
		}
	}
	if mode == 0 {
		mode = 0o644
	}
	return data, mode, nil
}

// Push writes a file in a host by way of its guest agent: fine for configuration, slow beyond a few megabytes, which
// belong in the payload or on the repository.
func (f *Fleet) Push(ctx context.Context, name string, file File) error {
	h, err := f.host(name)
	if err != nil {
		return err
	}
	data, mode, err := file.read()
	if err != nil {
		return err
	}
	tmp := path.Join(path.Dir(file.Path), ".lab-"+rand.Text())
	if _, err := f.Output(ctx, name, "mkdir -p "+quote(path.Dir(file.Path))); err != nil {
		return err
	}
	err = h.agent(ctx, func(a *agentConn) error { return a.writeFile(tmp, bytes.NewReader(data)) })
	if err != nil {
		return &fleet.Error{Op: "push " + file.Path, Host: fleet.HostID(name), Err: err, Next: "look at its console: " + h.serial()}
	}
	_, err = f.Output(ctx, name, fmt.Sprintf("chmod %o %s && mv %s %s", mode.Perm(), quote(tmp), quote(tmp), quote(file.Path)))
	return err
}

// Pull reads a file of a host.
func (f *Fleet) Pull(ctx context.Context, name, file string) ([]byte, error) {
	res, err := f.Exec(ctx, name, "cat "+quote(file))
	if err == nil && res.Exit != 0 {
		err = &fleet.Error{Op: "read " + file, Host: fleet.HostID(name), Err: errors.New(strings.TrimSpace(res.Stderr))}
	}
	return []byte(res.Stdout), err
}

func copyFile(from, to string, mode os.FileMode) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		out.Close()
		return err
	}
	return out.Close()
}

func fileSHA256(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
