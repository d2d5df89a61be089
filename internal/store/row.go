package store

import (
	"encoding/json"
	"time"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/operator"
)

// What operators read is kept as they read it.
type (
	Event    = operator.Event
	Incident = operator.Incident
	Choice   = operator.Choice
	Approval = operator.Approval
	Budget   = operator.Budget
)

// Rollout is one rollout. The store does not look into Spec, Plan and State: they belong to the room rollout.
type Rollout struct {
	ID     string         `json:"id"`
	Kernel fleet.KernelID `json:"kernel"`
	Status string         `json:"status"`
	// Open rollouts are those that still want something, or are still to be looked at in every tick.
	Open      bool            `json:"open"`
	Spec      json.RawMessage `json:"spec,omitempty"`
	Plan      json.RawMessage `json:"plan,omitempty"`
	State     json.RawMessage `json:"state,omitempty"`
	CreatedBy string          `json:"created_by,omitempty"`
	CreatedAt time.Time       `json:"created_at"`
	UpdatedAt time.Time       `json:"updated_at,omitzero"`
	EndedAt   time.Time       `json:"ended_at,omitzero"`
}

// Grant is one permission to leave service, from the day it was given.
type Grant struct {
	ID        fleet.GrantID     `json:"id"`
	Operation fleet.OperationID `json:"operation"`
	Host      fleet.HostID      `json:"host"`
	GivenAt   time.Time         `json:"given_at"`
	// ExpiresAt ends it for the holder. The budget counts the host until it is seen healthy.
	ExpiresAt time.Time `json:"expires_at"`
	EndedAt   time.Time `json:"ended_at,omitzero"` // zero: live
	EndedWhy  string    `json:"ended_why,omitempty"`
	// ConfirmedAt is when the host was last told that it may reboot under it. Zero: never.
	ConfirmedAt time.Time `json:"confirmed_at,omitzero"`
}

// EventQuery chooses events. Empty fields choose all.
type EventQuery struct {
	After     int64 // Seq greater than this
	Limit     int   // 0: no limit
	Newest    bool  // the last Limit that match instead of the first
	Rollout   string
	Host      fleet.HostID
	Operation fleet.OperationID
}

// EnrolToken lets machines enrol. The token itself is not kept.
type EnrolToken struct {
	Hash      string    `json:"hash"` // SHA-256, hex
	Note      string    `json:"note,omitempty"`
	Uses      int       `json:"uses"` // that it had in the beginning
	UsesLeft  int       `json:"uses_left"`
	CreatedBy string    `json:"created_by"`
	CreatedAt time.Time `json:"created_at"`
	ExpiresAt time.Time `json:"expires_at"`
}

// Operator is a person or program that may call the API. The token itself is not kept.
type Operator struct {
	operator.Account
	TokenHash string `json:"token_hash"` // SHA-256, hex
	CreatedBy string `json:"created_by,omitempty"`
}

// Certificate is one that the CA gave to a host.
type Certificate struct {
	Serial string       `json:"serial"` // lower-case hex
	Host   fleet.HostID `json:"host"`
	// KeySHA256 is the hex SHA-256 of the public key (SubjectPublicKeyInfo, DER): the host's identity.
	KeySHA256 string    `json:"key_sha256"`
	DER       []byte    `json:"der"`
	IssuedAt  time.Time `json:"issued_at"`
	NotAfter  time.Time `json:"not_after"`
	// How it was asked for: enrol, renew, reenrol.
	How string `json:"how"`
	// TokenHash is that of the token which it was enrolled with; empty for the others.
	TokenHash string `json:"token_hash,omitempty"`
	// ShownAt is when the host first came in with it while another authority was to follow; zero: it did not.
	ShownAt   time.Time `json:"shown_at,omitzero"`
	RevokedAt time.Time `json:"revoked_at,omitzero"` // zero: not revoked
	RevokedBy string    `json:"revoked_by,omitempty"`
}
