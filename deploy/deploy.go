// Package deploy holds the files that a host needs beside the agent's binary,
// and puts them in place: the agent's unit, and the dead-man, which works
// without the agent.
//
//	changed, err := deploy.Install(deploy.Options{Agent: "/usr/local/sbin/kernwave-agent"})
package deploy

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

//go:embed systemd/kernwave-agent.service systemd/kernwave-deadman.service deadman.sh
var files embed.FS

// Places on a host.
const (
	AgentUnit     = "kernwave-agent.service"
	DeadManUnit   = "kernwave-deadman.service"
	DeadManScript = "/usr/lib/kernwave/deadman"
	unitDir       = "/etc/systemd/system"
)

// agentMark stands for the agent's path in its unit.
const agentMark = "@AGENT@"

// Options say where to install.
type Options struct {
	// Root is the folder that everything is under. Empty means /.
	Root string
	// Agent is the absolute path of the agent's binary on the host. Empty means /usr/local/sbin/kernwave-agent.
	Agent string
}

// piece is one file or link of an installation.
type piece struct {
	path string
	text []byte
	mode fs.FileMode
	link string // not empty: a symbolic link to this
}

func pieces(o Options) ([]piece, error) {
	if o.Agent == "" {
		o.Agent = "/usr/local/sbin/kernwave-agent"
	}
	if !filepath.IsAbs(o.Agent) || strings.ContainsAny(o.Agent, " \t\n%$\"'\\") {
		return nil, fmt.Errorf("the agent's path %q: must be absolute, without spaces and quotes", o.Agent)
	}
	var ps []piece
	for _, f := range []struct {
		from, to string
		mode     fs.FileMode
	}{
		{"deadman.sh", DeadManScript, 0o755},
		{"systemd/" + DeadManUnit, unitDir + "/" + DeadManUnit, 0o644},
		{"systemd/" + AgentUnit, unitDir + "/" + AgentUnit, 0o644},
	} {
		b, err := files.ReadFile(f.from)
		if err != nil {
			return nil, err
		}
		ps = append(ps, piece{path: f.to, text: bytes.ReplaceAll(b, []byte(agentMark), []byte(o.Agent)), mode: f.mode})
	}
	// What systemctl enable does, without needing a running systemd.
	for unit, targets := range map[string][]string{
		DeadManUnit: {"sysinit.target", "emergency.target", "rescue.target"},
		AgentUnit:   {"multi-user.target"},
	} {
		for _, t := range targets {
			ps = append(ps, piece{path: unitDir + "/" + t + ".wants/" + unit, link: "../" + unit})
		}
	}
	return ps, nil
}

// Install writes and enables the units and the dead-man. changed says whether anything was not there yet: the caller
// then has systemd read its units anew. Nothing is started.
func Install(o Options) (changed bool, err error) {
	ps, err := pieces(o)
	if err != nil {
		return false, err
	}
	for _, p := range ps {
		if p.there(o.Root) {
			continue
		}
		if err := p.put(o.Root); err != nil {
			return changed, fmt.Errorf("install %s: %w", p.path, err)
		}
		changed = true
	}
	return changed, nil
}

// Missing lists what an installation needs and does not have, or has otherwise, apart from the agent's own path.
func Missing(o Options) ([]string, error) {
	ps, err := pieces(o)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, p := range ps {
		if filepath.Base(p.path) == AgentUnit && p.link == "" {
			if _, err := os.Stat(filepath.Join(o.Root, p.path)); err != nil {
				out = append(out, p.path)
			}
			continue
		}
		if !p.there(o.Root) {
			out = append(out, p.path)
		}
	}
	return out, nil
}

func (p piece) there(root string) bool {
	path := filepath.Join(root, p.path)
	if p.link != "" {
		to, err := os.Readlink(path)
		return err == nil && filepath.Base(to) == filepath.Base(p.link)
	}
	fi, err := os.Lstat(path)
	if err != nil || !fi.Mode().IsRegular() || fi.Mode().Perm() != p.mode {
		return false
	}
	b, err := os.ReadFile(path)
	return err == nil && bytes.Equal(b, p.text)
}

func (p piece) put(root string) error {
	path := filepath.Join(root, p.path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if p.link != "" {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return os.Symlink(p.link, path)
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".kernwave-")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(p.text)
	if err := errors.Join(err, tmp.Chmod(p.mode), tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}
