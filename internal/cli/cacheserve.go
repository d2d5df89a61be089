package cli

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/kernwave/kernwave/cache/resp"
	"github.com/kernwave/kernwave/fleet"
)

func (a *app) cacheServeCommand(f *cacheFlags) *cobra.Command {
	var listen, logFormat, readyFile string
	cmd := &cobra.Command{
		Use: "serve", Short: "run a gateway that any Redis client can call", Args: arguments(),
		Long: `Runs a gateway: redis-cli and every client library connect to it and call the commands of the registry, which
"COMMAND DOCS" lists. It is not in the way of customers: when it ends, nothing changes for them.

With --seed alone it listens on loopback only, lets everyone who can reach it look, and refuses writes. A --clusters
file names clusters, users and credentials; then it may listen elsewhere.`,
		Example: `  kernwave cache serve --seed 10.0.0.7:6379
  kernwave cache serve --listen 127.0.0.1:6390 --seed 10.0.0.7:6379,10.0.1.7:6379
  kernwave cache serve --clusters /etc/kernwave/cache.yaml`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(f.seeds) == 0 && f.clusters == "" {
				return &usageError{"no fleet is named", "for example: kernwave cache serve --seed 10.0.0.7:6379"}
			}
			log, err := newLog(a.Err, logFormat)
			if err != nil {
				return err
			}
			if f.clusters == "" && !loopback(listen) {
				return &usageError{"--listen " + listen + " is not on loopback, and nobody would have to log in", "listen on 127.0.0.1, or write a --clusters file that names users"}
			}
			at := listen
			var cfg resp.Config
			var usersMissing bool
			g, closeAll, err := openCache(f, func(file *cacheFile) {
				if file.Listen != "" && !cmd.Flags().Changed("listen") {
					at = file.Listen
				}
				cfg.TLS = file.tls
				usersMissing = file.users == nil
			})
			if err != nil {
				return err
			}
			defer closeAll()
			if usersMissing && !loopback(at) {
				return &usageError{"listen: " + at + " is not on loopback, and nobody would have to log in", "name a file of users in " + f.clusters + ", or listen on 127.0.0.1"}
			}
			cfg.Version = Version()
			srv, err := resp.NewServer(cfg, g, log)
			if err != nil {
				return err
			}
			ln, err := net.Listen("tcp", at)
			if err != nil {
				return &fleet.Error{Op: "listen on " + at, Err: err, Next: "choose another address with --listen, or end what has it"}
			}
			log.InfoContext(cmd.Context(), "cache gateway is up", "addr", ln.Addr().String(), "commands", len(g.Registry.Commands()))
			if readyFile != "" {
				if err := os.WriteFile(filepath.Clean(readyFile), []byte(ln.Addr().String()+"\n"), 0o600); err != nil {
					log.Warn("cannot write the ready file", "err", err)
				}
			}
			err = srv.Serve(cmd.Context(), ln)
			if errors.Is(err, context.Canceled) {
				return nil
			}
			return err
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&listen, "listen", "127.0.0.1:6390", "`ADDR`ess to answer on")
	fs.StringVar(&logFormat, "log", "text", "how to log: text, json")
	fs.StringVar(&readyFile, "ready-file", "", "write the address to `FILE` once the gateway answers")
	return cmd
}

// loopback says whether only this machine can reach addr.
func loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
