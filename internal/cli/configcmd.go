package cli

import (
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"

	kwv1 "github.com/kernwave/kernwave/api/gen/kernwave/v1"
	"github.com/kernwave/kernwave/fleet"
)

func (a *app) configCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "config", Short: "show and keep the settings of this program",
		Long: connectionText,
	}
	cmd.AddCommand(a.configShowCommand(), a.configSaveCommand())
	return cmd
}

func (a *app) configShowCommand() *cobra.Command {
	return &cobra.Command{
		Use: "show", Short: "show which settings are used, and where each comes from", Args: arguments(),
		Example: "  kernwave config show",
		RunE: func(*cobra.Command, []string) error {
			c, err := a.conn.resolve(a.Getenv)
			if err != nil {
				return err
			}
			ca := c.ca.value
			if strings.Contains(ca, "-----BEGIN") {
				ca = "(a certificate)"
			}
			token := ""
			if c.token.value != "" {
				token = "(set)" // never shown
			}
			if a.json() {
				type entry struct {
					Value string `json:"value,omitempty"`
					From  string `json:"from,omitempty"`
				}
				return printJSON(a.Out, "config", map[string]any{
					"server": entry{c.server.value, c.server.from}, "ca": entry{ca, c.ca.from},
					"token": entry{token, c.token.from}, "file": c.file,
				})
			}
			s := &sheet{}
			s.line("server", orElse(clean(c.server.value), "not set"), clean(c.server.from))
			s.line("ca", orElse(clean(ca), "the system's"), clean(c.ca.from))
			s.line("token", orElse(token, "not set"), clean(c.token.from))
			s.line("settings file", orElse(clean(c.file), "none"))
			if err := s.print(a.Out, a.paletteFor(a.Out), a.glyphs(), a.width()); err != nil {
				return err
			}
			_, _, err = c.check()
			return err
		},
	}
}

func (a *app) configSaveCommand() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use: "save", Short: "try the settings, and keep them for the next time", Args: arguments(),
		Long: `Asks the control plane with the settings of this command line, and when it answers, writes them
to your settings file: --config, else $KERNWAVE_CONFIG, else ~/.config/kernwave/config.yaml.
The CA and the token are copied into the file, which only you can read.`,
		Example: "  kernwave config save --server https://kernwave.example:8443 --ca ca.pem --token-file ada.token",
		RunE: func(cmd *cobra.Command, _ []string) error {
			name, given := a.saveAs()
			if name == "" {
				return &usageError{"there is no home directory to keep settings in", "name a file with --config"}
			}
			if _, err := os.Lstat(name); err == nil && !force {
				return &usageError{name + " is already there", "--force replaces it; --config names another file"}
			}
			if given { // it is written, not read, unless it is there
				if _, err := os.Stat(name); errors.Is(err, os.ErrNotExist) {
					a.conn.config = os.DevNull
				}
			}
			c, err := a.connect()
			if err != nil {
				return err
			}
			res, err := call(cmd.Context(), a, c.fleet.GetStatus, &kwv1.GetStatusRequest{})
			if err != nil {
				return err
			}
			if err := saveSettings(name, c.base, a.conn.used); err != nil {
				return &fleet.Error{Op: "keep the settings", Err: err, Next: "check that you may write there, or name another file with --config"}
			}
			if a.json() {
				return printJSON(a.Out, "config_saved", map[string]any{"file": name, "operator": res.GetOperator(), "role": res.GetRole()})
			}
			if !a.quiet {
				fmt.Fprintf(a.Out, "%s answers; you are %s (%s). Settings kept in %s\n", c.base, clean(res.GetOperator()), clean(res.GetRole()), clean(name))
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "replace the settings file that is there")
	return cmd
}

// saveAs names the file to write, and says whether somebody named it.
func (a *app) saveAs() (name string, given bool) {
	for _, n := range []string{a.conn.config, a.Getenv(envConfig)} {
		if n != "" {
			return n, true
		}
	}
	return ownSettings(a.Getenv), false
}

// saveSettings writes the whole file or nothing.
func saveSettings(name, base string, c connection) error {
	s := settings{Server: base, Token: c.token.value, CA: c.ca.value}
	if s.CA != "" && !strings.Contains(s.CA, "-----BEGIN") {
		b, err := readBounded(s.CA, maxCA)
		if err != nil {
			return err
		}
		s.CA = onlyCertificates(b)
	}
	b, err := yaml.Marshal(s)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return plainPathError(err)
	}
	tmp := name + ".new"
	_ = os.Remove(tmp) // of an earlier run that was killed here
	if err := writeSecret(tmp, b); err != nil {
		return err
	}
	return plainPathError(os.Rename(tmp, name))
}

// onlyCertificates leaves out whatever else stands in a PEM file: a private key must not be copied around.
func onlyCertificates(b []byte) string {
	var out strings.Builder
	for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			out.Write(pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes}))
		}
	}
	return out.String()
}
