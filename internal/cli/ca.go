package cli

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	kwv1 "github.com/kernwave/kernwave/api/gen/kernwave/v1"
	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/wire"
)

func (a *app) caCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "ca", Short: "show and rotate the authority behind the certificates",
		Long: `The control plane has an authority of its own, which signs the certificates of hosts and of
itself. To replace it: "rotate" makes the next one, and hosts learn it as they check in; when
all have, "retire" ends the old one.`,
	}
	cmd.AddCommand(a.caShowCommand(), a.caRotateCommand(), a.caRetireCommand(), a.caTrustCommand())
	return cmd
}

// caJSON is what a host or operator trusts, and how far a rotation has come.
type caJSON struct {
	Authorities []authorityJSON `json:"authorities"`
	Hosts       int             `json:"hosts"` // expected to learn the next one; 0 while there is none
	Ready       int             `json:"ready"`
	Waiting     []waitingJSON   `json:"waiting"`
}

type authorityJSON struct {
	Name      string `json:"name"`
	State     string `json:"state"`
	SHA256    string `json:"sha256"`
	NotAfter  string `json:"not_after"`
	RetiredAt string `json:"retired_at,omitempty"`
	der       []byte
}

type waitingJSON struct {
	Host     string `json:"host"`
	LastSeen string `json:"last_seen,omitempty"`
	Why      string `json:"why"`
}

func (a *app) caShowCommand() *cobra.Command {
	var asPEM bool
	cmd := &cobra.Command{
		Use: "show", Short: "show the authorities, and which hosts lack the next one", Args: arguments(),
		Example: "  kernwave ca show\n  kernwave ca show --pem > ca.pem",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			res, err := call(cmd.Context(), a, c.fleet.GetCA, &kwv1.GetCARequest{})
			if err != nil {
				return err
			}
			if asPEM {
				_, err := a.Out.Write(bundleOf(res))
				return err
			}
			return a.printCA(res)
		},
	}
	cmd.Flags().BoolVar(&asPEM, "pem", false, "print the certificates to trust, in PEM form")
	return cmd
}

func (a *app) caRotateCommand() *cobra.Command {
	var why string
	cmd := &cobra.Command{
		Use: "rotate", Short: "make the next authority: from now on both are trusted", Args: arguments(),
		Long: `Makes another authority beside the one that serves. Each host fetches a certificate of it at one
of its next check-ins (20 a second), and with it both to trust. The server goes on showing the
old one until "kernwave ca retire". Nothing is lost when a host is off meanwhile, until then.`,
		Example: `  kernwave ca rotate --why "yearly"`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			res, err := call(cmd.Context(), a, c.fleet.RotateCA, &kwv1.RotateCARequest{Why: why})
			if err != nil {
				return err
			}
			if err := a.printCA(res); err != nil {
				return err
			}
			a.note("", "kernwave ca trust, on each operator's machine; kernwave ca show until no host is waiting; then kernwave ca retire")
			return nil
		},
	}
	whyFlag(cmd, &why, true)
	return cmd
}

func (a *app) caRetireCommand() *cobra.Command {
	var why string
	var force, yes bool
	cmd := &cobra.Command{
		Use: "retire", Short: "end a rotation: the old authority counts for nothing any more", Args: arguments(),
		Long: `The next authority takes the place of the old one, whose key is destroyed. Hosts that have not
learned it could not come in any more: they are named, and the command refuses, unless --force.
Such a host is enrolled anew: kernwave-agent enrol --anew --ca-sha256 HEX --token TOKEN.`,
		Example: `  kernwave ca retire --why "all hosts have learned the new one"`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			if err := a.confirm(cmd, yes, "The old authority's key is destroyed. Operators who have not run \"kernwave ca trust\" need its successor's certificate from this machine."); err != nil {
				return err
			}
			res, err := call(cmd.Context(), a, c.fleet.RetireCA, &kwv1.RetireCARequest{Why: why, Force: force})
			if err != nil {
				return err
			}
			return a.printCA(res)
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "although hosts have not learned the next one")
	whyFlag(cmd, &why, true)
	confirmFlag(cmd, &yes)
	return cmd
}

func (a *app) caTrustCommand() *cobra.Command {
	return &cobra.Command{
		Use: "trust", Short: "learn the control plane's authorities into your settings", Args: arguments(),
		Long: `Asks the control plane, over the connection that is trusted now, which authorities count, and
writes them where your settings have the CA: the file that --ca, KERNWAVE_CA or the settings file
name, or the settings file itself. During a rotation that keeps this program working when the old
authority is retired.`,
		Example: "  kernwave ca trust",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			used := a.conn.used
			if used.ca.value == "" {
				return &fleet.Error{Op: "learn the authorities", Err: fmt.Errorf("no CA is set: the system's are trusted, and they know how to change"), Next: "nothing"}
			}
			res, err := call(cmd.Context(), a, c.fleet.GetCA, &kwv1.GetCARequest{})
			if err != nil {
				return err
			}
			file := used.ca.value
			have, inSettings := []byte(used.ca.value), strings.Contains(used.ca.value, "-----BEGIN")
			if inSettings {
				file = used.file
			} else if have, err = os.ReadFile(file); err != nil {
				return fmt.Errorf("read the CA: %w", err)
			}
			want := bundleOf(res)
			if bytes.Equal(certificatesIn(have), certificatesIn(want)) {
				return a.caTrusted(file, res, false)
			}
			next := "check that you may write there; or: kernwave ca show --pem > FILE, and name it with --ca"
			if inSettings {
				if file == "" || used.ca.from == envCA {
					return &fleet.Error{Op: "learn the authorities", Err: fmt.Errorf("the CA is in the environment (%s)", envCA), Next: "set it anew from: kernwave ca show --pem"}
				}
				used.ca.value = string(want)
				err = saveSettings(file, c.base, used)
			} else {
				err = writeWhole(file, want)
			}
			if err != nil {
				return &fleet.Error{Op: "learn the authorities", Err: err, Next: next}
			}
			return a.caTrusted(file, res, true)
		},
	}
}

func (a *app) caTrusted(file string, res *kwv1.GetCAResponse, changed bool) error {
	if a.json() {
		return printJSON(a.Out, "ca_trust", map[string]any{"file": file, "changed": changed, "ca": caOf(res)})
	}
	verb := "knew already of"
	if changed {
		verb = "trusts now"
	}
	var names []string
	for _, au := range caOf(res).Authorities {
		if au.State != "retired" {
			names = append(names, clean(au.Name))
		}
	}
	if !a.quiet {
		fmt.Fprintf(a.Out, "%s %s %s\n", clean(file), verb, strings.Join(names, " and "))
	}
	return nil
}

// writeWhole replaces a file whole, with the mode that it has.
func writeWhole(file string, data []byte) error {
	mode := os.FileMode(0o600)
	if st, err := os.Stat(file); err == nil {
		mode = st.Mode().Perm()
	}
	tmp := file + ".new"
	if err := os.WriteFile(tmp, data, mode); err != nil {
		return err
	}
	return os.Rename(tmp, file)
}

// bundleOf is what is to be trusted, in PEM form.
func bundleOf(res *kwv1.GetCAResponse) []byte {
	var b bytes.Buffer
	for _, au := range caOf(res).Authorities {
		if au.State == "retired" {
			continue
		}
		fmt.Fprintf(&b, "# %s\n", clean(au.Name))
		_ = pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: au.der}) // into memory
	}
	return b.Bytes()
}

// certificatesIn are the certificates of a PEM text, one after another.
func certificatesIn(text []byte) (ders []byte) {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if _, err := x509.ParseCertificate(block.Bytes); err == nil {
			ders = append(ders, block.Bytes...)
		}
	}
	return ders
}

func caOf(res *kwv1.GetCAResponse) caJSON {
	v := caJSON{Authorities: []authorityJSON{}, Hosts: int(res.GetHosts()), Ready: int(res.GetReady()), Waiting: []waitingJSON{}}
	for _, au := range res.GetAuthorities() {
		one := authorityJSON{
			Name: au.GetName(), State: au.GetState(), SHA256: au.GetSha256(), der: au.GetDer(),
			NotAfter: wire.TimeFromProto(au.GetNotAfter()).Format("2006-01-02T15:04:05Z07:00"),
		}
		if at := wire.TimeFromProto(au.GetRetiredAt()); !at.IsZero() {
			one.RetiredAt = at.Format("2006-01-02T15:04:05Z07:00")
		}
		v.Authorities = append(v.Authorities, one)
	}
	for _, w := range res.GetWaiting() {
		one := waitingJSON{Host: w.GetHost(), Why: w.GetWhy()}
		if at := wire.TimeFromProto(w.GetLastSeen()); !at.IsZero() {
			one.LastSeen = at.Format("2006-01-02T15:04:05Z07:00")
		}
		v.Waiting = append(v.Waiting, one)
	}
	return v
}

func (a *app) printCA(res *kwv1.GetCAResponse) error {
	v := caOf(res)
	if a.json() {
		return printJSON(a.Out, "ca", v)
	}
	p, g := a.paletteFor(a.Out), a.glyphs()
	t := &table{head: []string{"AUTHORITY", "STATE", "GOOD UNTIL", "SHA256"}}
	for i, au := range v.Authorities {
		until := timeText(wire.TimeFromProto(res.GetAuthorities()[i].GetNotAfter()))
		if au.State == "retired" {
			until = "retired " + timeText(wire.TimeFromProto(res.GetAuthorities()[i].GetRetiredAt()))
		}
		t.add(clean(au.Name), p.state(clean(au.State)), until, clean(au.SHA256))
	}
	if err := t.print(a.Out, p, g, a.width()); err != nil {
		return err
	}
	if v.Hosts == 0 {
		return nil
	}
	fmt.Fprintf(a.Out, "\n%d of %s have learned the next one\n", v.Ready, count(v.Hosts, "host"))
	if len(v.Waiting) == 0 {
		a.note("", "kernwave ca retire --why …")
		return nil
	}
	t = &table{head: []string{"WAITING", "SEEN", "WHY"}}
	for i, w := range v.Waiting {
		if i == maxWaitingShown {
			t.add(fmt.Sprintf("and %d more", len(v.Waiting)-i), "", "")
			break
		}
		t.add(clean(w.Host), ago(wire.TimeFromProto(res.GetWaiting()[i].GetLastSeen()), a.Now()), clean(w.Why))
	}
	return t.print(a.Out, p, g, a.width())
}

// maxWaitingShown keeps a page readable; -o json has all.
const maxWaitingShown = 30
