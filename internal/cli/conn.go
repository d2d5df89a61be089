package cli

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

// The environment's settings.
const (
	envServer = "KERNWAVE_SERVER"
	envCA     = "KERNWAVE_CA"
	envToken  = "KERNWAVE_TOKEN"
	envConfig = "KERNWAVE_CONFIG"
)

// connFlags are the connection settings as given on the command line, and, once resolved, where each came from.
type connFlags struct {
	server, ca, tokenFile, config string // flags

	used connection
}

// setting is one value and where it came from, for messages.
type setting struct{ value, from string }

// connection says how to reach the control plane. It is unchecked until [connection.check].
type connection struct {
	server setting // https://host:port
	ca     setting // a file's name, or PEM text
	token  setting
	file   string // the settings file that was read; empty: none
	// tokenFile is where the token was read; empty: it was given itself.
	tokenFile string
}

func (f *connFlags) serverName() string { return orElse(f.used.server.value, "(none)") }
func (f *connFlags) serverFrom() string { return orElse(f.used.server.from, "--server") }
func (f *connFlags) caFrom() string {
	return orElse(f.used.ca.from, "the system's CAs; --ca is not set")
}
func (f *connFlags) tokenFrom() string { return orElse(f.used.token.from, "--token-file") }

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// resolve finds each setting: the flag, else the environment, else the settings file.
func (f *connFlags) resolve(getenv func(string) string) (connection, error) {
	file, name, err := f.load(getenv)
	if err != nil {
		return connection{}, err
	}
	c := connection{file: name}
	inFile := func(key string) string { return key + " in " + name }
	c.server = firstSet(
		setting{f.server, "--server"}, setting{getenv(envServer), envServer}, setting{file.Server, inFile("server")})
	c.ca = firstSet(
		setting{f.ca, "--ca"}, setting{getenv(envCA), envCA}, setting{relativeTo(name, file.CA), inFile("ca")})
	tokenFile := setting{f.tokenFile, "--token-file"}
	if tokenFile.value == "" && getenv(envToken) == "" {
		tokenFile = setting{relativeTo(name, file.TokenFile), inFile("token_file")}
	}
	if tokenFile.value != "" {
		c.token, err = readToken(tokenFile)
		c.tokenFile = tokenFile.value
		if err != nil {
			return connection{}, err
		}
	} else {
		c.token = firstSet(setting{getenv(envToken), envToken}, setting{file.Token, inFile("token")})
	}
	f.used = c
	return c, nil
}

// firstSet gives the first setting that has a value.
func firstSet(settings ...setting) setting {
	for _, s := range settings {
		if strings.TrimSpace(s.value) != "" {
			return setting{strings.TrimSpace(s.value), s.from}
		}
	}
	return setting{}
}

// maxToken bounds a token file; a token is one short line.
const maxToken = 4 << 10

func readToken(from setting) (setting, error) {
	b, err := readBounded(from.value, maxToken)
	if err != nil {
		return setting{}, &usageError{"read the token (" + from.from + "): " + err.Error(), "name a file that holds an operator's token"}
	}
	token := strings.TrimSpace(string(b))
	if token == "" || strings.ContainsAny(token, " \t\r\n") {
		return setting{}, &usageError{from.value + " does not hold a token: a token is one word", "name a file that holds an operator's token"}
	}
	return setting{token, from.value}, nil
}

// check makes sure that everything is there, and readable, before anything is sent.
func (c connection) check() (base string, roots *x509.CertPool, err error) {
	base, err = serverURL(c.server)
	if err != nil {
		return "", nil, err
	}
	if c.token.value == "" {
		return "", nil, &usageError{
			"no operator token is set",
			"set " + envToken + " or --token-file, or token_file in the settings file; \"kernwave help connection\" explains",
		}
	}
	if strings.ContainsFunc(c.token.value, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", nil, &usageError{"the token (" + c.token.from + ") holds characters that no token has", "copy it again, as one word"}
	}
	roots, err = c.roots()
	return base, roots, err
}

func serverURL(s setting) (string, error) {
	if s.value == "" {
		return "", &usageError{
			"no control plane is set",
			"set --server or " + envServer + ", or server in the settings file; \"kernwave help connection\" explains",
		}
	}
	raw := s.value
	if !strings.Contains(raw, "://") {
		raw = "https://" + raw
	}
	u, err := url.Parse(raw)
	switch {
	case err != nil, u.Host == "", u.Hostname() == "":
		return "", &usageError{fmt.Sprintf("%q (%s) is no address of a control plane", s.value, s.from), "write it like https://kernwave.example:8443"}
	case u.Scheme != "https":
		return "", &usageError{fmt.Sprintf("%q (%s) is not https: the control plane speaks TLS only", s.value, s.from), "write it like https://kernwave.example:8443"}
	case strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.User != nil:
		return "", &usageError{fmt.Sprintf("%q (%s) is more than an address", s.value, s.from), "write it like https://kernwave.example:8443"}
	}
	return "https://" + u.Host, nil
}

// maxCA bounds a file of CA certificates.
const maxCA = 1 << 20

// roots are the CAs that may have signed the control plane's certificate. Without a setting, the system's.
func (c connection) roots() (*x509.CertPool, error) {
	if c.ca.value == "" {
		return nil, nil //nolint:nilnil // crypto/tls reads nil as the system's roots
	}
	pem, next := []byte(c.ca.value), "name the CA file from the control plane's data directory"
	if !strings.Contains(c.ca.value, "-----BEGIN") {
		var err error
		if pem, err = readBounded(c.ca.value, maxCA); err != nil {
			return nil, &usageError{"read the CA (" + c.ca.from + "): " + err.Error(), next}
		}
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, &usageError{"the CA (" + c.ca.from + ") holds no certificate in PEM form", next}
	}
	return pool, nil
}

func readBounded(name string, limit int64) ([]byte, error) {
	st, err := os.Stat(name)
	if err != nil {
		return nil, plainPathError(err)
	}
	if st.Size() > limit {
		return nil, fmt.Errorf("%s: %s, at most %s are expected", name, sizeText(st.Size()), sizeText(limit))
	}
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, plainPathError(err)
	}
	return b, nil
}

// plainPathError says "FILE: no such file or directory" without the system call's name.
func plainPathError(err error) error {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return fmt.Errorf("%s: %w", p.Path, p.Err)
	}
	return err
}

// relativeTo reads a path in a settings file as seen from that file. PEM text is no path.
func relativeTo(file, name string) string {
	if name == "" || filepath.IsAbs(name) || strings.Contains(name, "-----BEGIN") {
		return name
	}
	return filepath.Join(filepath.Dir(file), name)
}
