// Package scenarios reads, checks and prints the files that tell the simulator
// what to play, and brings some: docs/reference/simulator.md has the format.
//
//	s, err := scenarios.Parse("night.yaml", data) // every mistake at once, with its line
//	s, err = scenarios.Shipped("healthy")
//	text := scenarios.Print(s)                    // Parse reads it back
package scenarios

import (
	"embed"
	"fmt"
	"slices"
	"strings"

	"github.com/kernwave/kernwave/internal/sim"
)

//go:embed *.yaml
var shipped embed.FS

// Names are the scenarios that are shipped, sorted.
func Names() []string {
	files, err := shipped.ReadDir(".")
	if err != nil {
		panic(err) // it is in the program
	}
	var names []string
	for _, f := range files {
		names = append(names, strings.TrimSuffix(f.Name(), ".yaml"))
	}
	slices.Sort(names)
	return names
}

// Text is the file of a shipped scenario, comments and all; false: there is none of that name.
func Text(name string) ([]byte, bool) {
	if !slices.Contains(Names(), name) {
		return nil, false
	}
	b, err := shipped.ReadFile(name + ".yaml")
	return b, err == nil
}

// Shipped is a scenario that comes with the program.
func Shipped(name string) (sim.Scenario, error) {
	b, ok := Text(name)
	if !ok {
		return sim.Scenario{}, fmt.Errorf("there is no scenario %q", name)
	}
	return Parse(name+".yaml", b)
}
