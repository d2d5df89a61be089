package sim

import (
	"context"
	"errors"
)

func run(context.Context, Scenario, Options) (Result, error) {
	return Result{}, errors.New("the engine is not built yet")
}

func random(uint64) Scenario { return Scenario{} }
