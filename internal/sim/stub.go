package sim

import (
	"context"
	"errors"
)

func run(context.Context, Scenario, Options) (Result, error) {
	return Result{}, errors.New("the engine is not built yet")
}

func random(uint64) Scenario { return Scenario{} }

// Validate reports every mistake at once; each begins with the path of the key: fleet.types[2].hosts.
func (s Scenario) Validate() error { return nil }
