package script

import (
	"context"
	"strings"

	"github.com/rogpeppe/go-internal/diff"

	"github.com/kernwave/kernwave/cache"
)

// diffCmd compares the manifest and the program of two versions, line by line: what is to be read before a version is promoted.
func (m *Manager) diffCmd(_ context.Context, c *cache.Call) (cache.Value, error) {
	name, l, b, err := m.version(c)
	if err != nil {
		return cache.Value{}, err
	}
	other, err := m.against(name, l, c.Text("against"))
	if err != nil {
		return cache.Value{}, err
	}
	old, err := m.store.bundle(name, other.Hash)
	if err != nil {
		return cache.Value{}, err
	}
	from, to := other.Version+" ("+old.Short()+")", l.Version+" ("+b.Short()+")"
	text := func(file string, x, y []byte) cache.Value {
		d := string(diff.Diff(file+" "+from, x, file+" "+to, y))
		if _, rest, ok := strings.Cut(d, "\n"); ok { // its first line repeats the names
			d = rest
		}
		return cache.String(d)
	}
	return cache.Dict("name", cache.String(name), "from", cache.String(other.Hash), "to", cache.String(l.Hash), "same", cache.Truth(other.Hash == l.Hash),
		"manifest", text(manifestFile, old.ManifestText, b.ManifestText), "program", text(programFile, old.ProgramText, b.ProgramText)), nil
}

// against finds the version that another is compared with.
func (m *Manager) against(name string, l loaded, want string) (loaded, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	st := m.states[name]
	if want == "" && st.Active != l.Hash {
		want = st.Active
	}
	if want == "" { // it runs itself, or none does
		for i, v := range st.Versions {
			if v.Hash == l.Hash && i > 0 {
				return st.Versions[i-1], nil
			}
		}
		return loaded{}, cache.Errorf(cache.CodeErr, "CACHE.CMD SHOW "+name+" shows it", "%s has no other version to compare this one with", name)
	}
	if v := st.find(want); v != nil {
		return *v, nil
	}
	return loaded{}, cache.Errorf(cache.CodeErr, "CACHE.CMD LIST shows its versions", "%s has no version %s", name, clip(want))
}
