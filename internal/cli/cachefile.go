package cli

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/kernwave/kernwave/cache"
	"github.com/kernwave/kernwave/cache/upstream"
)

// cacheFile is a --clusters file, once read and checked.
type cacheFile struct {
	Listen   string
	Record   string
	State    string
	Clusters []cacheCluster

	users cache.Users
	tls   *tls.Config
}

type cacheCluster struct{ upstream.Config }

// cacheYAML is the file as it is written. Paths in it are as seen from it.
type cacheYAML struct {
	Listen string      `yaml:"listen"`
	Record string      `yaml:"record"`
	State  string      `yaml:"state"`
	Users  string      `yaml:"users"`
	TLS    *serverYAML `yaml:"tls"`

	Clusters []struct {
		Name             string            `yaml:"name"`
		Seeds            []string          `yaml:"seeds"`
		Service          string            `yaml:"service"`
		Group            string            `yaml:"group"`
		User             string            `yaml:"user"`
		PasswordFile     string            `yaml:"password_file"`
		WriteUser        string            `yaml:"write_user"`
		WriteFile        string            `yaml:"write_password_file"`
		SentinelUser     string            `yaml:"sentinel_user"`
		SentinelFile     string            `yaml:"sentinel_password_file"`
		Hosts            map[string]string `yaml:"hosts"`
		TimeoutAsWritten string            `yaml:"timeout"`
		TLS              *clientYAML       `yaml:"tls"`
	} `yaml:"clusters"`
}

type serverYAML struct {
	Cert string `yaml:"cert"`
	Key  string `yaml:"key"`
}

type clientYAML struct {
	CA   string `yaml:"ca"`
	Cert string `yaml:"cert"`
	Key  string `yaml:"key"`
	Name string `yaml:"server_name"`
}

// readCacheFile reads a --clusters file and reports every mistake in it at once.
func readCacheFile(name string) (*cacheFile, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, &usageError{plainPathError(err).Error(), "name a file that can be read with --clusters"}
	}
	var y cacheYAML
	if err := yaml.NewDecoder(bytes.NewReader(b), yaml.Strict()).Decode(&y); err != nil {
		return nil, &usageError{name + ": " + strings.TrimSpace(yaml.FormatError(err, false, false)), "mend the file; docs/reference/cache.md has all keys"}
	}
	out := &cacheFile{Listen: y.Listen, Record: relativeTo(name, y.Record), State: relativeTo(name, y.State)}
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	secret := func(where, file string) string {
		if file == "" {
			return ""
		}
		b, err := os.ReadFile(relativeTo(name, file))
		if err != nil {
			bad("%s: %w", where, plainPathError(err))
		}
		return strings.TrimSpace(string(b))
	}
	if y.Users != "" {
		if out.users, err = cache.LoadUsers(relativeTo(name, y.Users)); err != nil {
			errs = append(errs, plainPathError(err))
		}
	}
	if y.TLS != nil {
		pair, err := tls.LoadX509KeyPair(relativeTo(name, y.TLS.Cert), relativeTo(name, y.TLS.Key))
		if err != nil {
			bad("tls: %w", plainPathError(err))
		}
		out.tls = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	}
	for i, c := range y.Clusters {
		where := fmt.Sprintf("clusters[%d]", i)
		if c.Name != "" {
			where += " (" + c.Name + ")"
		}
		cfg := upstream.Config{
			Name: c.Name, Seeds: c.Seeds, Service: c.Service, Group: c.Group, User: c.User, Hosts: c.Hosts,
			Password: secret(where+": password_file", c.PasswordFile), SentinelUser: c.SentinelUser,
			SentinelPassword: secret(where+": sentinel_password_file", c.SentinelFile),
		}
		if c.WriteFile != "" || c.WriteUser != "" {
			pw := secret(where+": write_password_file", c.WriteFile)
			cfg.WriteUser, cfg.WritePassword = &c.WriteUser, &pw
		}
		if c.TimeoutAsWritten != "" {
			d, err := time.ParseDuration(c.TimeoutAsWritten)
			if err != nil {
				bad("%s: timeout: %w", where, err)
			}
			cfg.Timeout = d
		}
		if c.TLS != nil {
			if cfg.TLS, err = c.TLS.config(name); err != nil {
				bad("%s: tls: %w", where, plainPathError(err))
			}
		}
		out.Clusters = append(out.Clusters, cacheCluster{cfg})
	}
	if len(y.Clusters) == 0 {
		bad("clusters: there is none")
	}
	if err := errors.Join(errs...); err != nil {
		return nil, &usageError{name + ": " + strings.ReplaceAll(err.Error(), "\n", "; "), "mend the file; docs/reference/cache.md has all keys"}
	}
	return out, nil
}

func (c *clientYAML) config(file string) (*tls.Config, error) {
	tc := &tls.Config{ServerName: c.Name, MinVersion: tls.VersionTLS12}
	if c.CA != "" {
		pem, err := os.ReadFile(relativeTo(file, c.CA))
		if err != nil {
			return nil, err
		}
		tc.RootCAs = x509.NewCertPool()
		if !tc.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate", c.CA)
		}
	}
	if c.Cert != "" {
		pair, err := tls.LoadX509KeyPair(relativeTo(file, c.Cert), relativeTo(file, c.Key))
		if err != nil {
			return nil, err
		}
		tc.Certificates = []tls.Certificate{pair}
	}
	return tc, nil
}
