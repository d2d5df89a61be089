package cli

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/api"
	"github.com/kernwave/kernwave/internal/backup"
	"github.com/kernwave/kernwave/internal/control"
	"github.com/kernwave/kernwave/internal/stop"
	"github.com/kernwave/kernwave/internal/store"
	"github.com/kernwave/kernwave/internal/store/sqlite"
)

// ServerConfig is what `kernwave server` takes.
type ServerConfig struct {
	Dir     string // the data directory; made if need be
	Listen  string // host:port; port 0 chooses one
	API     api.Config
	Control control.Config
	// Restored says that an operator put a backup into place of the same directory.
	Restored bool
	// Ready, when set, is called once with the address on which the server answers.
	Ready func(addr net.Addr)
	// Fault is the store's ([sqlite.Options]). No flag sets it: it is for tests that have the server die at a write.
	Fault func(point string) error
}

// Serve builds and connects all parts of a control plane, and runs it until ctx ends.
func Serve(ctx context.Context, cfg ServerConfig, log *slog.Logger) (err error) {
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return &fleet.Error{Op: "open the data directory", Err: err, Next: "choose a directory with --data that can be written"}
	}
	if finished, err := backup.Finish(cfg.Dir); err != nil {
		return err
	} else if finished {
		log.WarnContext(ctx, "a restore that was cut short was finished", "data", cfg.Dir)
	}
	metrics := api.NewMetrics(Version())
	db, err := sqlite.Open(cfg.Dir, sqlite.Options{Rand: rand.Reader, Fault: cfg.Fault})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	st := metrics.Observe(db)
	halt := stop.Open(cfg.Dir)
	start, err := begin(ctx, st, halt, cfg, log)
	if err != nil {
		return err
	}

	ln, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		return &fleet.Error{Op: "listen on " + cfg.Listen, Err: err, Next: "choose another address with --listen, or end what has it"}
	}
	defer ln.Close() // a second close, after Run's, changes nothing
	cfg.Control.From = start.Incarnation
	cfg.Control.Halt = func(who, why string, at time.Time) error { return halt.Set(stop.Order{Who: who, Why: why, At: at}) }
	cfg.Control.Ticked = func(took time.Duration, _ error) { metrics.Tick(took) }
	ctl, err := control.New(cfg.Control, st, halt, log)
	if err != nil {
		return err
	}
	cfg.API.Dir, cfg.API.URL = cfg.Dir, "https://"+reachableAs(ln.Addr())
	srv, err := api.New(ctx, cfg.API, api.Parts{
		Store: st, Epoch: start.Incarnation, Control: ctl, Stop: halt, Metrics: metrics, Log: log,
	})
	if err != nil {
		return err
	}
	log.InfoContext(ctx, "control plane is up", "addr", ln.Addr().String(), "incarnation", start.Incarnation.Incarnation,
		"term", start.Incarnation.Term, "ca_sha256", srv.CA().SHA256(), "data", cfg.Dir)
	if cfg.Ready != nil {
		cfg.Ready(ln.Addr())
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return ctl.Run(ctx) })
	g.Go(func() error { return srv.Run(ctx, ln) })
	return g.Wait()
}

// begin makes this process the one that may write. A store that was restored or cloned begins with everything
// stopped: what it remembers may be older than what the hosts did.
func begin(ctx context.Context, st store.Store, halt *stop.Stop, cfg ServerConfig, log *slog.Logger) (store.Start, error) {
	place, err := placeOf(cfg.Dir)
	if err != nil {
		return store.Start{}, err
	}
	place.Raise = cfg.Restored
	start, err := st.Begin(ctx, place)
	if err != nil || start.Moved == "" {
		return start, err
	}
	log.WarnContext(ctx, "the store was restored or cloned; everything is stopped", "why", start.Moved,
		"next", "kernwave status says which hosts have told what they did; then: kernwave stop lift")
	if err := halt.Set(stop.Order{Who: "control plane", Why: start.Moved, At: time.Now()}); err != nil {
		return start, err
	}
	return start, control.SettleMove(ctx, st, start, time.Now())
}

// placeOf says where a data directory lies: a copy of it, or of its disk, lies elsewhere.
func placeOf(dir string) (store.Place, error) {
	var s syscall.Stat_t
	if err := syscall.Stat(dir, &s); err != nil {
		return store.Place{}, fmt.Errorf("look at %s: %w", dir, err)
	}
	id, err := os.ReadFile("/etc/machine-id")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return store.Place{}, fmt.Errorf("read the machine id: %w", err)
	}
	sum := sha256.Sum256(append([]byte("kernwave store "), id...))
	return store.Place{
		MachineID: hex.EncodeToString(sum[:16]), Dir: fmt.Sprintf("%d:%d", s.Dev, s.Ino), Instance: rand.Text(), At: time.Now(),
	}, nil
}

// reachableAs is how this machine's own command line reaches addr.
func reachableAs(addr net.Addr) string {
	host, port, err := net.SplitHostPort(addr.String())
	if err != nil {
		return addr.String()
	}
	if ip := net.ParseIP(host); ip == nil || ip.IsUnspecified() || ip.IsLoopback() {
		host = "localhost"
	}
	return net.JoinHostPort(host, port)
}

func (a *app) serverCommand() *cobra.Command {
	var cfg ServerConfig
	var logFormat, readyFile string
	cmd := &cobra.Command{
		Use:   "server --data DIR",
		Short: "run the control plane",
		Long: `Runs the control plane: one process, nothing else to install. Its state is in DIR. At the
first start it makes its own certificate authority and an operator "admin", whose token it
leaves in DIR/admin.token; on the same machine, "kernwave --config DIR …" uses it.`,
		Example: `  kernwave server --data /var/lib/kernwave
  kernwave server --data /var/lib/kernwave --listen :8443 --name kernwave.example.org`,
		Args: arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cfg.Dir == "" {
				return &usageError{"--data must be given", "for example: kernwave server --data /var/lib/kernwave"}
			}
			log, err := newLog(a.Err, logFormat)
			if err != nil {
				return err
			}
			cfg.API.Version = Version()
			if readyFile != "" {
				cfg.Ready = func(addr net.Addr) {
					if err := os.WriteFile(filepath.Clean(readyFile), []byte(addr.String()+"\n"), 0o600); err != nil {
						log.Warn("cannot write the ready file", "err", err)
					}
				}
			}
			return Serve(cmd.Context(), cfg, log)
		},
	}
	f := cmd.Flags()
	f.StringVar(&cfg.Dir, "data", "", "data `DIR`ectory; made if need be")
	f.StringVar(&cfg.Listen, "listen", "127.0.0.1:8443", "`ADDR`ess to answer on, always with TLS")
	f.StringSliceVar(&cfg.API.Names, "name", nil, "further `NAME` or address by which hosts and operators reach the server")
	f.DurationVar(&cfg.Control.GrantLife, "grant-life", 30*time.Second, "how long a grant lasts when nobody renews it")
	f.DurationVar(&cfg.Control.IdlePace, "idle-pace", 30*time.Second, "time between check-ins of an idle host")
	f.DurationVar(&cfg.Control.OperationPace, "operation-pace", 2*time.Second, "time between check-ins in an operation")
	f.DurationVar(&cfg.Control.SilentAfter, "silent-after", 0, "a host that says nothing for so long counts as out of service (default 3 idle paces, at least 90s)")
	f.DurationVar(&cfg.API.HostCertLife, "host-certificate-life", 90*24*time.Hour, "life of a host's certificate")
	f.DurationVar(&cfg.API.ReenrolWithin, "reenrol-within", 365*24*time.Hour, "how long after its certificate ran out a host may re-enrol with its old key")
	f.Int64Var(&cfg.API.MaxBlob, "max-package", 2<<30, "largest package in bytes")
	f.IntVar(&cfg.API.MaxDownloads, "max-downloads", 64, "packages that are sent at once")
	f.IntVar(&cfg.API.MaxRequests, "max-requests", 1024, "requests that are answered at once")
	f.Float64Var(&cfg.API.EnrolPerSecond, "enrol-per-second", 20, "enrolments that are looked at in a second")
	f.DurationVar(&cfg.API.TickWithin, "tick-within", 30*time.Second, "how old the last tick may be before /readyz says no")
	f.BoolVar(&cfg.Restored, "restored", false, "the data directory is a backup that was put back in place")
	f.StringVar(&logFormat, "log", "text", "how to log: text, json")
	f.StringVar(&readyFile, "ready-file", "", "write the address to `FILE` once the server answers")
	return cmd
}

func newLog(w io.Writer, format string) (*slog.Logger, error) {
	switch strings.ToLower(format) {
	case "text":
		return slog.New(slog.NewTextHandler(w, nil)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, nil)), nil
	}
	return nil, &usageError{fmt.Sprintf("unknown log format %q", format), "use --log text or --log json"}
}
