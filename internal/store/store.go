// Package store says which questions Kernwave asks of its state and what it
// writes: an interface and the rows. It decides nothing and asks no clock; every
// time in it came from a caller. internal/store/sqlite implements it, and
// internal/store/storetest tests any implementation.

//	err := s.Update(ctx, func(tx store.Tx) error {
//		h, err := tx.Host("web-1")
//		…
//		if err := tx.PutHost(h); err != nil {
//			return err
//		}
//		_, err = tx.AppendEvent(store.Event{At: now, Who: "alice", Kind: "host.status", Host: h.ID, What: …})
//		return err
//	})
package store

import (
	"context"
	"errors"
	"time"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/operator"
)

// ErrNotFound is returned by the methods of [Reader] that ask for one row, when there is none.
var ErrNotFound = operator.ErrNotFound

// ErrFenced is returned by [Store.View] and [Store.Update] when another process began on the same data after this one, or this one
// never began, for an Update: what it wanted to write was decided on a state that is no longer its own.
var ErrFenced = errors.New("another control plane has taken over this store")

// Error says that the store itself failed: its disk, its driver, its connection. What a caller did wrong is never one.
type Error struct {
	Op  string // "read the store: hosts"
	Err error
}

func (e *Error) Error() string { return e.Op + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Store is the state of one control plane. Its methods may be called from any goroutine.
type Store interface {
	// Begin makes this process the one that may write: it raises the term, and the incarnation too when p is not
	// the place where the store was last (restored or cloned). It fences whoever began before.
	Begin(ctx context.Context, p Place) (Start, error)

	// View runs f on one consistent snapshot. f must not keep r. Once another process has begun on the same data after
	// this one it returns ErrFenced: what it would read may be decided on by somebody else already.
	View(ctx context.Context, f func(r Reader) error) error

	// Update runs f in one durable write transaction, after all earlier ones and before all later ones, or not at
	// all: when f or the commit fails nothing of it stays. f may run only once. f must not call View or Update of
	// the same store (it would wait for itself), must not keep tx, and should not wait for anything else.

	// An error from a failed commit leaves open whether the writes are there, as a crash does: read again.
	Update(ctx context.Context, f func(tx Tx) error) error

	// Last is the newest state that this process has read or written, without asking the store; nil: none yet. Where
	// another process has taken over, it stays behind: what lets a host leave service is read in a View or an Update.
	Last() *Hot
	// Fresh is what a View that began now would see, where this process knows that without asking the store: nobody
	// else can have written since. Otherwise ok is false: ask in a View.
	Fresh() (h *Hot, ok bool)

	// Close waits for running transactions and closes. Later calls fail.
	Close() error
}

// Place is where a store lies, and who opens it.
type Place struct {
	MachineID string // of the machine, hashed or not; compared only
	Dir       string // device and inode of the data directory: "2049:1835"
	Instance  string // drawn by the caller at each start
	// Raise asks for a new incarnation even though the place is the same: an operator restored a copy in place.
	Raise bool
	// At is when, for people: a later start that finds the store moved says when it was last begun.
	At time.Time
}

// Start is what Begin decided.
type Start struct {
	Incarnation fleet.Incarnation
	// Moved is why the store counts as restored or cloned; empty: it does not. It stays, over restarts, until
	// [Tx.SettleMove]: whoever reads it must stop everything first, durably, and settle then.
	Moved string
}

// Reader asks questions. Lists are never nil-checked by callers: an empty one is an empty slice or nil. What it returns
// may be shared: callers change their copies of rows, but not the slices, maps and pointers in them.
type Reader interface {
	// Epoch is the incarnation, term and instance that began last.
	Epoch() (fleet.Incarnation, error)
	// Rebuild is the last time that the store was restored or cloned; zero: it never was.
	Rebuild() (Rebuild, error)
	// Hot is the snapshot's part that every tick looks at; in an Update, with what that has written.
	Hot() (*Hot, error)

	Host(id fleet.HostID) (fleet.Host, error)
	Hosts() ([]fleet.Host, error) // all, by id
	HostsByStatus(s fleet.Status) ([]fleet.Host, error)
	// LastSeen is what PutLastSeen kept. After a start it is history: a host is silent until it is heard.
	LastSeen() (map[fleet.HostID]time.Time, error)

	Kernel(id fleet.KernelID) (fleet.Kernel, error)
	Kernels() ([]fleet.Kernel, error) // in the order in which they were added

	Rollout(id string) (Rollout, error)
	Rollouts() ([]Rollout, error)     // newest first
	OpenRollouts() ([]Rollout, error) // those with Open set, oldest first

	Operation(id fleet.OperationID) (fleet.Operation, error)
	OpenOperations() ([]fleet.Operation, error) // phase not an end; oldest first
	// OperationsOn lists a host's operations, newest (put first last) first. limit 0: all.
	OperationsOn(h fleet.HostID, limit int) ([]fleet.Operation, error)
	OperationsOf(owner string) ([]fleet.Operation, error) // oldest first

	Grant(id fleet.GrantID) (Grant, error)
	LiveGrants() ([]Grant, error)                   // EndedAt is zero; oldest first. Expired ones too: the store has no clock
	GrantsOf(op fleet.OperationID) ([]Grant, error) // oldest first
	Approvals(checksum string) ([]Approval, error)  // those not withdrawn, oldest first; "": of all kernels
	Incident(id string) (Incident, error)
	Incidents(all bool) ([]Incident, error) // newest first; not all: the open ones
	Events(q EventQuery) ([]Event, error)   // always by rising Seq
	Budgets() ([]Budget, error)             // by By
	EnrolToken(hash string) (EnrolToken, error)
	EnrolTokens() ([]EnrolToken, error) // oldest first
	Operator(name string) (Operator, error)
	Operators() ([]Operator, error) // by name
	Certificate(serial string) (Certificate, error)
	CertificatesOf(h fleet.HostID) ([]Certificate, error) // oldest first
	RevokedCertificates() ([]string, error)               // serials
	IdempotencyKey(scope, key string) (result string, err error)
}

// Tx reads and writes. A Put replaces the row with the same id or adds it. What a Tx wrote, it reads.
type Tx interface {
	Reader

	// PutRebuild replaces what [Reader.Rebuild] says.
	PutRebuild(rb Rebuild) error
	// PutObeyed takes note of a control plane that a host has obeyed, here or elsewhere: the next incarnation that this
	// store begins as restored is higher than all of them. A later term of this very incarnation shows that the store was
	// put back to an older state: the next start begins as restored.
	PutObeyed(i fleet.Incarnation) error

	// SettleMove forgets why the store counted as restored or cloned.
	SettleMove() error

	// NextID counts 1, 2, 3 … for each kind: "r" gives r-1, r-2. In a store that was restored or cloned the ids end in
	// random digits that were drawn then: r-3-c41f07. What others drew after the same backup stays another's.
	NextID(kind string) (string, error)
	// NextOperationID and NextGrantID are unique for ever: they end in random digits.
	NextOperationID() (fleet.OperationID, error)
	NextGrantID() (fleet.GrantID, error)

	PutHost(h fleet.Host) error
	// PutLastSeen keeps the later one of what it has and what it gets, for each host.
	PutLastSeen(seen map[fleet.HostID]time.Time) error
	// AddKernel refuses an id that is there, even with the same content.
	AddKernel(k fleet.Kernel) error
	PutRollout(r Rollout) error
	PutOperation(o fleet.Operation) error
	PutGrant(g Grant) error
	// AppendApproval and AppendEvent ignore the ID and Seq that they are given and return the ones they gave.
	AppendApproval(a Approval) (id int64, err error)
	// WithdrawApproval appends a row that withdraws an approval. Withdrawing again changes nothing.
	WithdrawApproval(id int64, by, why string, at time.Time) error
	AppendEvent(e Event) (seq int64, err error)
	PutIncident(i Incident) error
	PutBudget(b Budget) error
	DeleteBudget(by string) error // no such budget: no error
	PutEnrolToken(t EnrolToken) error
	PutOperator(o Operator) error
	DeleteOperator(name string) error // ErrNotFound when there is none
	PutCertificate(c Certificate) error
	// PutIdempotencyKey refuses a key that is there.
	PutIdempotencyKey(scope, key, result string, at time.Time) error
}
