package cache

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
)

// FileUsers are accounts from a file: {"users": [{"name": "ada", "role": "operator", "secret_sha256": "…"}],
// "default": "viewer"}. Secrets are random tokens of at least 128 bits, so a plain hash of them is enough; make one
// with "openssl rand -hex 24" and hash it with "printf %s TOKEN | sha256sum".
type FileUsers struct {
	users     map[string]fileUser
	nobody    User
	hasNobody bool
}

type fileUser struct {
	Name   string `json:"name"`
	Role   Role   `json:"role"`
	Secret string `json:"secret_sha256"`
}

// LoadUsers reads the file and reports every mistake in it at once.
func LoadUsers(path string) (*FileUsers, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return ParseUsers(path, b)
}

// ParseUsers reads the bytes of such a file; name is for errors.
func ParseUsers(name string, b []byte) (*FileUsers, error) {
	var file struct {
		Users   []fileUser `json:"users"`
		Default Role       `json:"default"`
	}
	dec := json.NewDecoder(strings.NewReader(string(b)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&file); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	u := &FileUsers{users: map[string]fileUser{}}
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(name+": "+format, args...)) }
	for i, x := range file.Users {
		switch {
		case x.Name == "" || strings.ContainsAny(x.Name, " \t\r\n"):
			bad("users[%d]: the name %q is empty or has blanks", i, x.Name)
		case !x.Role.May(Read):
			bad("users[%d] (%s): there is no role %q; use viewer, operator or admin", i, x.Name, x.Role)
		case u.users[x.Name].Name != "":
			bad("users[%d]: %s is there twice", i, x.Name)
		default:
			if d, err := hex.DecodeString(x.Secret); err != nil || len(d) != sha256.Size {
				bad("users[%d] (%s): secret_sha256 is not 64 hexadecimal digits", i, x.Name)
				continue
			}
			u.users[x.Name] = x
		}
	}
	if file.Default != "" {
		if !file.Default.May(Read) {
			bad("default: there is no role %q; use viewer or operator, or leave it out", file.Default)
		}
		u.hasNobody, u.nobody = true, User{Name: "default", Role: file.Default}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return u, nil
}

// Login compares hashes in constant time.
func (u *FileUsers) Login(name, secret string) (User, error) {
	sum := sha256.Sum256([]byte(secret))
	x := u.users[name]
	want, _ := hex.DecodeString(x.Secret)
	if len(want) != sha256.Size {
		want = make([]byte, sha256.Size)
	}
	if subtle.ConstantTimeCompare(sum[:], want) != 1 || x.Name == "" {
		return User{}, Errorf(CodeWrongPass, "", "invalid username-password pair or user is disabled.")
	}
	return User{Name: x.Name, Role: x.Role}, nil
}

// Default is who has not logged in.
func (u *FileUsers) Default() (User, bool) { return u.nobody, u.hasNobody }
