package operator

import (
	"fmt"
	"strings"
	"time"
)

// Rebuild says how far a restored control plane has come in learning from the hosts' journals what its store forgot.
// It is over when every active host has told its own.
type Rebuild struct {
	Why      string    `json:"why"` // why the store counts as restored
	Since    time.Time `json:"since"`
	Hosts    int       `json:"hosts"` // active ones
	Reported int       `json:"reported"`
	// Waiting are the first [MaxWaiting] of those that have not, by id.
	Waiting []Out `json:"waiting,omitempty"`
}

// MaxWaiting is how many hosts a rebuild names.
const MaxWaiting = 10

// maxSaid is how many of them one sentence names.
const maxSaid = 3

// String is one sentence without full stop.
func (r Rebuild) String() string {
	s := fmt.Sprintf("rebuilding after a restore: %s of %s hosts have reported", thousands(r.Reported), thousands(r.Hosts))
	left := r.Hosts - r.Reported
	if left <= 0 || len(r.Waiting) == 0 {
		return s
	}
	var names []string
	for _, o := range r.Waiting[:min(len(r.Waiting), maxSaid)] {
		names = append(names, fmt.Sprintf("%s (%s)", o.Host, o.Why))
	}
	s += "; waiting for " + strings.Join(names, ", ")
	if more := left - len(names); more > 0 {
		s += fmt.Sprintf(" and %s more", thousands(more))
	}
	return s
}

// thousands writes 4812 as 4,812.
func thousands(n int) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
