package script

import (
	"embed"
	"io/fs"
	"path"
)

//go:embed examples
var examples embed.FS

// Examples are the bundles that are shipped, by the name of their folder.
func Examples() map[string]*Bundle {
	out := map[string]*Bundle{}
	dirs, _ := fs.ReadDir(examples, "examples") // what is embedded is there
	for _, d := range dirs {
		files := map[string][]byte{}
		for _, name := range []string{manifestFile, programFile} {
			files[name], _ = examples.ReadFile(path.Join("examples", d.Name(), name))
		}
		b, err := newBundle(files)
		if err != nil {
			panic("example " + d.Name() + ": " + err.Error())
		}
		out[d.Name()] = b
	}
	return out
}
