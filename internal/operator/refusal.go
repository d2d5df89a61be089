package operator

import "errors"

// Why an operator's or agent's wish was refused. Errors wrap one of them, so that the API can choose a status code
// and the command line an exit code; the sentence that people read is around it. An error that wraps none is ours.
var (
	// ErrInvalid: what was asked can never work; asking again will not help.
	ErrInvalid = errors.New("invalid")
	// ErrNotFound: it speaks of something that is not there.
	ErrNotFound = errors.New("not found")
	// ErrExists: there is one of that name already, and it is another.
	ErrExists = errors.New("exists already")
	// ErrState: it cannot be done as things stand now, such as resuming what is not paused.
	ErrState = errors.New("not possible now")
)

// Refuse marks err as a refusal of the given sort (ErrInvalid …) without changing what it prints.
func Refuse(sort, err error) error { return refusal{sort, err} }

type refusal struct{ sort, err error }

func (r refusal) Error() string   { return r.err.Error() }
func (r refusal) Unwrap() []error { return []error{r.err, r.sort} }
