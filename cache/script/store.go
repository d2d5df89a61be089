package script

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// store keeps bundles in a folder: one folder a command, in it NAME/HASH.tar for each version, and state.json, which says
// which of them runs. A version is never changed once it is there.
type store struct{ dir string }

// state is what is known of one command's versions.
type state struct {
	Active   string    `json:"active"`   // hash; empty: none runs
	Previous string    `json:"previous"` // what ROLLBACK goes back to; empty: to none
	Versions []loaded  `json:"versions"` // oldest first
	Changed  time.Time `json:"changed"`
}

type loaded struct {
	Hash     string    `json:"hash"`
	Version  string    `json:"version"` // the manifest's
	Author   string    `json:"author"`
	At       time.Time `json:"at"`
	Tested   bool      `json:"tested"`
	Shadowed bool      `json:"shadowed"`
}

func (s *state) find(hash string) *loaded {
	for i := range s.Versions {
		if strings.HasPrefix(s.Versions[i].Hash, strings.ToLower(hash)) && len(hash) >= 8 {
			return &s.Versions[i]
		}
	}
	return nil
}

// read returns the states of all commands, by name.
func (s store) read() (map[string]*state, error) {
	out := map[string]*state{}
	entries, err := os.ReadDir(s.dir)
	if errors.Is(err, os.ErrNotExist) {
		return out, nil
	}
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if !e.IsDir() || !nameForm.MatchString(e.Name()) {
			continue
		}
		b, err := os.ReadFile(filepath.Join(s.dir, e.Name(), "state.json"))
		if errors.Is(err, os.ErrNotExist) { // the first PUT did not get that far
			continue
		}
		st := &state{}
		if err == nil {
			err = json.Unmarshal(b, st)
		}
		if err != nil {
			return nil, fmt.Errorf("the state of %s: %w", e.Name(), err)
		}
		out[e.Name()] = st
	}
	return out, nil
}

func (s store) bundle(name, hash string) (*Bundle, error) {
	b, err := os.ReadFile(filepath.Join(s.dir, name, hash+".tar"))
	if err != nil {
		return nil, err
	}
	bundle, err := ReadTar(b)
	if err == nil && bundle.Hash != hash {
		err = fmt.Errorf("%s %s was changed on disk: its hash is %s", name, hash[:12], bundle.Short())
	}
	return bundle, err
}

func (s store) save(name string, st *state, b *Bundle) error {
	dir := filepath.Join(s.dir, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if b != nil {
		if err := replace(filepath.Join(dir, b.Hash+".tar"), b.Tar()); err != nil {
			return err
		}
	}
	text, err := json.MarshalIndent(st, "", "  ")
	if err != nil {
		return err
	}
	return replace(filepath.Join(dir, "state.json"), text)
}

// replace writes a file so that a power cut leaves the old one or the new one.
func replace(path string, text []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// clone keeps a state apart from what is changed in it.
func (s *state) clone() *state {
	c := *s
	c.Versions = slices.Clone(s.Versions)
	return &c
}
