package cache

// Role is what someone may do. The roles are those of the control plane.
type Role string

// The roles, from the least to the most rights.
const (
	Viewer   Role = "viewer"   // read
	Operator Role = "operator" // and loadread; writes with another person's approval
	Admin    Role = "admin"    // and disruptive commands, loading commands, and approving
)

// May says whether the role allows commands of class c. Whether a second person must agree as well is for the gateway.
func (r Role) May(c Class) bool {
	switch c {
	case Read:
		return r == Viewer || r == Operator || r == Admin
	case LoadRead, Write:
		return r == Operator || r == Admin
	case Disruptive:
		return r == Admin
	}
	return false
}

// User is who calls.
type User struct {
	Name string `json:"name"`
	Role Role   `json:"role"`
}

// Users says who may log in. It is as small as the gateway's need, so that the control plane's operators can stand
// behind it as well as a file.
type Users interface {
	// Login returns the user of that name and secret, or an *Error with CodeWrongPass. It takes the same time for
	// an unknown name.
	Login(name, secret string) (User, error)
	// Default is who a connection is before it logs in. ok is false where everyone must.
	Default() (u User, ok bool)
}

// Loopback is the Users of a gateway without configuration, which listens on loopback only: whoever can reach it may
// look. Nobody may write.
type Loopback struct{}

// Login refuses: there are no accounts.
func (Loopback) Login(string, string) (User, error) {
	return User{}, Errorf(CodeWrongPass, "name a file of users in the --clusters file of the gateway", "this gateway has no accounts")
}

// Default may look, also at a cost.
func (Loopback) Default() (User, bool) { return User{Name: "local", Role: Operator}, true }
