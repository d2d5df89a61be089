package api

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
)

// The beginnings of tokens say what they are for, so that a mistake can be explained and a leaked one found.
const (
	operatorToken = "kwo_"
	enrolToken    = "kwe_"
)

// newToken draws 256 random bits.
func newToken(kind string, random io.Reader) (string, error) {
	b := make([]byte, 32)
	if _, err := io.ReadFull(random, b); err != nil {
		return "", fmt.Errorf("draw a token: %w", err)
	}
	return kind + base64.RawURLEncoding.EncodeToString(b), nil
}

// hashToken is how a token is kept. A plain hash does: what it hides has 256 random bits.
func hashToken(t string) string {
	sum := sha256.Sum256([]byte(t))
	return hex.EncodeToString(sum[:])
}

// wrongToken says why a token of the wrong kind is refused; empty: it is not of the wrong kind.
func wrongToken(t, want string) string {
	switch {
	case want == operatorToken && strings.HasPrefix(t, enrolToken):
		return "this is a token for enrolling hosts, not an operator's"
	case want == enrolToken && strings.HasPrefix(t, operatorToken):
		return "this is an operator's token, not one for enrolling hosts"
	}
	return ""
}
