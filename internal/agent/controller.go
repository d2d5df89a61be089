package agent

import (
	"context"
	"errors"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/agent/hook"
)

// Controller is the part of the control plane that an agent needs.
type Controller interface {
	// CheckIn says what is and returns what should be. It returns an error only when nothing was learned.
	CheckIn(ctx context.Context, r fleet.Report) (fleet.Desired, error)
	// ConfirmReboot asks the last-moment question. An error means that there is no answer.
	ConfirmReboot(ctx context.Context, id fleet.OperationID, grant fleet.GrantID) (fleet.Confirmation, error)
	// Reconnect leaves whoever gave the last answer: the next question finds its way anew. Behind one address there may
	// be a newer control plane and an older one that is still running, and a connection to that one would last for ever.
	Reconnect()
}

// ErrRefused is returned, wrapped, by a [Fetcher] when asking again cannot help: the content is not what its name
// says, or the store does not have it.
var ErrRefused = errors.New("refused")

// Fetcher brings packages onto the machine.
type Fetcher interface {
	// Fetch returns the path of a file with the package's content, verified. It goes on where an earlier one stopped.
	Fetch(ctx context.Context, p fleet.Package) (path string, err error)
	// Forget removes fetched files, whole or not.
	Forget() error
}

// Programs are the operator's. [hook.Dir] is the real one.
type Programs interface {
	// Load reads them anew. The error names every mistake.
	Load() (hook.Set, error)
	Run(ctx context.Context, p hook.Program, env hook.Env) hook.Result
}
