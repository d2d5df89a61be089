// Package daemon is a running agent, put together from its settings: identity,
// uplink, the operator's programs and the loop. The machine itself comes from
// the caller, so that a test starts the whole agent on a machine made of nothing.
package daemon

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/agent/conf"
)

// DefaultFile is where the settings are.
const DefaultFile = "/etc/kernwave/agent.yaml"

// Settings are /etc/kernwave/agent.yaml, checked. Load them with [Load].
type Settings struct {
	// Server is the control plane: https://kernwave.example:8443. Required.
	Server string
	// Name is the host id to enrol under. Default: the machine's host name up to the first dot.
	Name fleet.HostID
	// Labels are sent with the facts: workload, datacenter, rack and whatever else.
	Labels fleet.Labels
	// CA is a file of certificates to trust, CASHA256 the SHA-256 of one that the server must show (hex). One of them
	// is needed until the host is enrolled.
	CA       string
	CASHA256 string
	// TokenFile holds the enrolment token. Default /etc/kernwave/token.
	TokenFile string
	// StateDir is the agent's own directory. Default /var/lib/kernwave.
	StateDir string
	// HooksDir holds the operator's programs. Default /etc/kernwave/hooks.d.
	HooksDir string
	// LogLevel is debug, info (default), warn or error.
	LogLevel slog.Level
	// Bounds of a trial; zero means the default of [agent.Config]. 1 s to 1 h each.
	SettleUnits, SettleNetwork, RevertNetworkAfter time.Duration
}

var sha256Hex = regexp.MustCompile(`^[0-9a-fA-F]{64}$`)

// Load reads the settings of the machine whose root directory is root ("" or "/" for this one). All paths are moved
// below it. The error names every mistake with its line.
func Load(file, root string) (Settings, error) {
	path := Under(root, file)
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return Settings{}, &fleet.Error{
			Op: "read settings", Err: fmt.Errorf("%s is missing", path),
			Next: "create an enrolment token on the control plane (kernwave token create) and type what it prints",
		}
	}
	if err != nil {
		return Settings{}, fmt.Errorf("read settings: %w", err)
	}
	s, err := Parse(path, data)
	if err != nil {
		return Settings{}, err
	}
	for _, p := range []*string{&s.CA, &s.TokenFile, &s.StateDir, &s.HooksDir} {
		if *p != "" {
			*p = Under(root, *p)
		}
	}
	return s, nil
}

// Under moves an absolute path below root.
func Under(root, path string) string {
	if root == "" || root == "/" {
		return path
	}
	return filepath.Join(root, path)
}

// Parse reads settings and fills in the defaults. file is for the error only.
func Parse(file string, data []byte) (Settings, error) {
	doc := conf.Parse(file, data)
	s := Settings{
		Server: doc.String("server"), Name: fleet.HostID(doc.String("name")), Labels: doc.Table("labels"),
		CA: doc.String("ca"), CASHA256: strings.ReplaceAll(doc.String("ca_sha256"), ":", ""),
		TokenFile: doc.String("token_file"), StateDir: doc.String("state_dir"), HooksDir: doc.String("hooks_dir"),
		SettleUnits: doc.Duration("settle_units"), SettleNetwork: doc.Duration("settle_network"),
		RevertNetworkAfter: doc.Duration("revert_network_after"),
	}
	if s.Server == "" {
		doc.Mistake("server", "is missing: the control plane's address, like https://kernwave.example:8443")
	} else if !strings.HasPrefix(s.Server, "https://") {
		doc.Mistake("server", "%q must begin with https://", s.Server)
	}
	if s.Name == "" {
		host, err := os.Hostname()
		if err != nil {
			doc.Mistake("name", "is missing, and the machine has no host name: %v", err)
		}
		short, _, _ := strings.Cut(host, ".")
		s.Name = fleet.HostID(short)
	}
	if _, err := fleet.ParseHostID(string(s.Name)); err != nil {
		doc.Mistake("name", "%v", err)
	}
	if err := s.Labels.Validate(); err != nil {
		doc.Mistake("labels", "%v", err)
	}
	if s.CASHA256 != "" && !sha256Hex.MatchString(s.CASHA256) {
		doc.Mistake("ca_sha256", "must be 64 hex digits, as kernwave token create prints them")
	}
	if l := doc.String("log_level"); l != "" && s.LogLevel.UnmarshalText([]byte(l)) != nil {
		doc.Mistake("log_level", "%q must be debug, info, warn or error", l)
	}
	for key, d := range map[string]time.Duration{
		"settle_units": s.SettleUnits, "settle_network": s.SettleNetwork, "revert_network_after": s.RevertNetworkAfter,
	} {
		if d != 0 && (d < time.Second || d > time.Hour) {
			doc.Mistake(key, "%s is outside 1s to 1h", d)
		}
	}
	for _, p := range []struct {
		key, std string
		v        *string
	}{
		{"ca", "", &s.CA},
		{"token_file", "/etc/kernwave/token", &s.TokenFile},
		{"state_dir", "/var/lib/kernwave", &s.StateDir},
		{"hooks_dir", "/etc/kernwave/hooks.d", &s.HooksDir},
	} {
		if *p.v == "" {
			*p.v = p.std
		} else if !filepath.IsAbs(*p.v) {
			doc.Mistake(p.key, "%q must be an absolute path", *p.v)
		}
	}
	if err := doc.Err(); err != nil {
		return Settings{}, &fleet.Error{Op: "read settings", Err: err, Next: "mend " + file + ", then start kernwave-agent again"}
	}
	return s, nil
}

// Token reads the enrolment token.
func (s Settings) Token() (string, error) {
	data, err := os.ReadFile(s.TokenFile)
	token := strings.TrimSpace(string(data))
	if err == nil && token == "" {
		err = errors.New(s.TokenFile + " is empty")
	}
	if err != nil {
		return "", &fleet.Error{
			Op: "read enrolment token", Err: err,
			Next: "create a token on the control plane (kernwave token create) and write it there, readable by root alone",
		}
	}
	return token, nil
}

// authorities reads the file of certificates to trust at first contact.
func (s Settings) authorities() ([]*x509.Certificate, error) {
	if s.CA == "" {
		return nil, nil
	}
	data, err := os.ReadFile(s.CA)
	if err != nil {
		return nil, fmt.Errorf("read ca: %w", err)
	}
	var out []*x509.Certificate
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("read ca %s: %w", s.CA, err)
		}
		out = append(out, c)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("read ca %s: it holds no certificate in PEM", s.CA)
	}
	return out, nil
}
