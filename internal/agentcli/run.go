package agentcli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/kernwave/kernwave/deploy"
	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/agent/daemon"
	"github.com/kernwave/kernwave/internal/agent/disk"
	"github.com/kernwave/kernwave/internal/linux/command"
)

func run(ctx context.Context, a *app, args []string) error {
	if err := a.parse(args); err != nil {
		return err
	}
	s, err := daemon.Load(a.config, a.root)
	if err != nil {
		return err
	}
	log := a.log(s.LogLevel)
	sys, err := a.host(log)
	if err != nil {
		return err
	}
	p := a.program()
	log.InfoContext(ctx, "kernwave-agent starts", "version", p.Version, "server", s.Server)
	return daemon.Run(ctx, s, p, sys, log)
}

// enrol writes the settings, where there are none, and gets the certificate.
func enrol(ctx context.Context, a *app, args []string) error {
	var server, pin, ca, name, token string
	a.flags.StringVar(&server, "server", "", "the control plane's `address`, like https://kernwave.example:8443")
	a.flags.StringVar(&pin, "ca-sha256", "", "SHA-256 (`hex`) of the authority that the server must show")
	a.flags.StringVar(&ca, "ca", "", "or a `file` with the authority's certificate")
	a.flags.StringVar(&name, "name", "", "the host's `name` in the fleet (default: the machine's host name)")
	a.flags.StringVar(&token, "token", "", "enrolment `token` (default: from the file that the settings name)")
	var anew, moved bool
	a.flags.BoolVar(&anew, "anew", false, "give up the certificate that this machine has: it is a copy of another, or its control plane has another authority now;\nwhat is given with it is written into the settings")
	a.flags.BoolVar(&moved, "moved", false, "this host's disk was moved into other hardware, or that was replaced: keep the certificate")
	if err := a.parse(args); err != nil {
		return err
	}
	path := daemon.Under(a.root, a.config)
	if anew && moved {
		return usageError{errors.New("--anew and --moved: only one of them can be meant")}
	}
	if moved {
		return a.moved()
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		if server == "" || pin == "" && ca == "" {
			return usageError{fmt.Errorf("there is no %s yet: --server and --ca-sha256 (or --ca) are needed", path)}
		}
		if err := writeSettings(path, server, pin, ca, name); err != nil {
			return err
		}
		fmt.Fprintln(a.Out, "wrote", path)
	} else if err != nil {
		return fmt.Errorf("look at settings: %w", err)
	}
	if anew {
		if err := changeSettings(path, map[string]string{"server": server, "name": name, "ca_sha256": pin, "ca": ca}); err != nil {
			return err
		}
	}
	s, err := daemon.Load(a.config, a.root)
	if err != nil {
		return err
	}
	for _, given := range []struct{ flag, want, has string }{
		{"--server", server, s.Server}, {"--ca-sha256", pin, s.CASHA256}, {"--name", name, string(s.Name)},
	} {
		if given.want != "" && !strings.EqualFold(given.want, given.has) {
			return &fleet.Error{
				Op: "enrol", Err: fmt.Errorf("%s is %s, and %s says %s", given.flag, given.want, path, orNothing(given.has)),
				Next: "change " + path + ", or leave the flag out",
			}
		}
	}
	if token != "" {
		if err := os.WriteFile(s.TokenFile, []byte(token+"\n"), 0o600); err != nil {
			return fmt.Errorf("write token: %w", err)
		}
	}
	log := a.log(slog.LevelWarn)
	sys, err := a.host(log)
	if err != nil {
		return err
	}
	how := daemon.Enrol
	if anew {
		how = daemon.EnrolAnew
	}
	host, err := how(ctx, s, a.program(), sys, log)
	if err != nil {
		return err
	}
	fmt.Fprintf(a.Out, "enrolled as %s with %s\nnext: kernwave-agent doctor; kernwave-agent install && systemctl restart kernwave-agent\n", host, s.Server)
	return nil
}

// moved says that the hardware around the host's state changed on purpose.
func (a *app) moved() error {
	s, err := daemon.Load(a.config, a.root)
	if err != nil {
		return err
	}
	host, err := daemon.Moved(s, a.program())
	if err != nil {
		return err
	}
	fmt.Fprintf(a.Out, "%s belongs to this machine now\nnext: systemctl start kernwave-agent\n", host)
	return nil
}

// changeSettings sets keys in the settings file, each on a line of its own, and leaves the rest as it is. Empty values
// are left alone; a pinned authority replaces a file of authorities, and the other way round.
func changeSettings(path string, set map[string]string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read settings: %w", err)
	}
	drop := map[string]bool{"ca_sha256": set["ca"] != "", "ca": set["ca_sha256"] != ""}
	var lines []string
	for key, v := range set {
		drop[key] = drop[key] || v != ""
	}
	for line := range strings.Lines(string(data)) {
		if key, _, ok := strings.Cut(line, ":"); !ok || !drop[key] {
			lines = append(lines, strings.TrimRight(line, "\n"))
		}
	}
	for _, key := range []string{"server", "name", "ca_sha256", "ca"} {
		if set[key] != "" {
			lines = append(lines, fmt.Sprintf("%s: %q", key, set[key]))
		}
	}
	text := []byte(strings.Join(lines, "\n") + "\n")
	if string(text) == string(data) {
		return nil
	}
	if _, err := daemon.Parse(path, text); err != nil {
		return err
	}
	if err := disk.Replace(disk.OS{}, path, text, 0o644); err != nil {
		return fmt.Errorf("write settings: %w", err)
	}
	return nil
}

func writeSettings(path, server, pin, ca, name string) error {
	var b strings.Builder
	b.WriteString("# Settings of kernwave-agent; written by kernwave-agent enrol.\n")
	for _, kv := range [][2]string{{"server", server}, {"name", name}, {"ca_sha256", pin}, {"ca", ca}} {
		if kv[1] != "" {
			fmt.Fprintf(&b, "%s: %q\n", kv[0], kv[1])
		}
	}
	b.WriteString("# labels: {workload: web, datacenter: fra1, rack: r12}\n")
	if _, err := daemon.Parse(path, []byte(b.String())); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(b.String()), 0o644)
}

func install(ctx context.Context, a *app, args []string) error {
	var agentPath string
	a.flags.StringVar(&agentPath, "agent", "", "absolute `path` of the agent's binary (default: this one)")
	if err := a.parse(args); err != nil {
		return err
	}
	if agentPath == "" {
		p, err := os.Executable()
		if err != nil {
			return fmt.Errorf("find this binary: %w", err)
		}
		agentPath = p
	}
	changed, err := deploy.Install(deploy.Options{Root: a.root, Agent: agentPath})
	if err != nil {
		return &fleet.Error{Op: "install", Err: err, Next: "run it as root"}
	}
	if !changed {
		fmt.Fprintln(a.Out, "everything was in place already")
		return nil
	}
	if a.root == "" || a.root == "/" {
		if _, err := (command.Exec{}).Run(ctx, command.Cmd{Name: "systemctl", Args: []string{"daemon-reload"}}); err != nil {
			return &fleet.Error{Op: "install", Err: err, Next: "run: systemctl daemon-reload"}
		}
	}
	fmt.Fprintf(a.Out, "installed %s, %s and %s, enabled at boot\nnext: systemctl start kernwave-agent\n", deploy.AgentUnit, deploy.DeadManUnit, deploy.DeadManScript)
	return nil
}

func orNothing(s string) string {
	if s == "" {
		return "nothing"
	}
	return s
}
