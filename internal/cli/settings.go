package cli

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/goccy/go-yaml"
)

// settings is the file that tells the command line where the control plane is. A server writes one for its first
// operator: operator.yaml in its data directory.
type settings struct {
	// Server is the control plane's address: https://host:port.
	Server string `yaml:"server,omitempty"`
	// CA is a PEM file, as seen from the settings file, or the PEM text itself. Empty: the system's CAs.
	CA string `yaml:"ca,omitempty"`
	// Token is the operator's token; TokenFile a file that holds it. One of the two.
	Token     string `yaml:"token,omitempty"`
	TokenFile string `yaml:"token_file,omitempty"`
}

// maxSettings bounds the settings file; it may hold a CA in PEM form.
const maxSettings = 1 << 20

// load reads the settings file: --config, else KERNWAVE_CONFIG, else the person's own, which may be missing.
func (f *connFlags) load(getenv func(string) string) (s settings, name string, err error) {
	name, must := f.config, true
	if name == "" {
		name = getenv(envConfig)
	}
	if name == "" {
		must = false
		if name = ownSettings(getenv); name == "" {
			return settings{}, "", nil
		}
	}
	if st, err := os.Stat(name); err == nil && st.IsDir() {
		name = filepath.Join(name, "operator.yaml") // a server's data directory
	}
	b, err := readBounded(name, maxSettings)
	if errors.Is(err, os.ErrNotExist) && !must {
		return settings{}, "", nil
	}
	if err != nil {
		return settings{}, "", &usageError{"read the settings: " + err.Error(), "name a settings file, or the data directory of a server, with --config"}
	}
	s, err = parseSettings(b)
	if err != nil {
		return settings{}, "", &usageError{"settings file " + name + ": " + err.Error(), `mend it; "kernwave help connection" shows one`}
	}
	return s, name, nil
}

// ownSettings is where a person's settings are kept. Empty: there is no home.
func ownSettings(getenv func(string) string) string {
	if dir := getenv("XDG_CONFIG_HOME"); dir != "" {
		return filepath.Join(dir, "kernwave", "config.yaml")
	}
	if home := getenv("HOME"); home != "" {
		return filepath.Join(home, ".config", "kernwave", "config.yaml")
	}
	return ""
}

// parseSettings reads a settings file and refuses what it does not know, with the line.
func parseSettings(b []byte) (settings, error) {
	var s settings
	dec := yaml.NewDecoder(bytes.NewReader(b), yaml.DisallowUnknownField())
	if err := dec.Decode(&s); err != nil && !errors.Is(err, io.EOF) {
		return settings{}, errors.New(firstLine(yaml.FormatError(err, false, false)))
	}
	if s.Token != "" && s.TokenFile != "" {
		return settings{}, errors.New("both token and token_file are set: keep one")
	}
	return s, nil
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return line
}

// connectionText is the help topic.
const connectionText = `How kernwave finds the control plane. Each setting comes from the first place
that has it:

            flag               environment       in the settings file
  address   --server URL       KERNWAVE_SERVER   server: https://kw.example:8443
  CA        --ca FILE          KERNWAVE_CA       ca: ca.pem
  token     --token-file FILE  KERNWAVE_TOKEN    token_file: ada.token

The settings file is --config FILE, else $KERNWAVE_CONFIG, else
~/.config/kernwave/config.yaml. Paths in it are as seen from it; "ca" may be the PEM
text itself, and "token" the token. A directory means operator.yaml in it: on the
machine that runs the control plane, "--config DIR" with the server's data directory
is all it takes.

"kernwave config show" says what is used and where it comes from; "kernwave config
save" tries the settings and keeps them for the next time.`
