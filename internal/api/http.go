package api

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"connectrpc.com/connect"

	rpc "github.com/kernwave/kernwave/api/gen/kernwave/v1/kernwavev1connect"
	"github.com/kernwave/kernwave/internal/operator"
)

// maxRequest bounds the body of an RPC: facts of the largest machine are a few KiB, a problem's evidence 16 KiB.
const maxRequest = 1 << 20

// rpcTime bounds how long a client may take to send an RPC, and to take its answer.
const rpcTime = time.Minute

// Handler returns everything that the port serves.
func (s *Server) Handler() http.Handler {
	opts := []connect.HandlerOption{
		connect.WithReadMaxBytes(maxRequest),
		connect.WithCodec(strictJSON{"json"}), connect.WithCodec(strictJSON{"json; charset=utf-8"}),
		connect.WithRequestGate(s.gate),
		connect.WithInterceptors(connect.UnaryInterceptorFunc(s.answer)),
	}
	services := http.NewServeMux()
	services.Handle(rpc.NewEnrolServiceHandler(enrolService{s}, opts...))
	services.Handle(rpc.NewAgentServiceHandler(agentService{s}, opts...))
	services.Handle(rpc.NewFleetServiceHandler(fleetService{s}, opts...))
	services.Handle(rpc.NewKernelServiceHandler(kernelService{s}, opts...))
	services.Handle(rpc.NewRolloutServiceHandler(rolloutService{s}, opts...))

	mux := http.NewServeMux()
	limited := limitTime(explained(services))
	for p := range procedures {
		mux.Handle(p, limited)
	}
	mux.HandleFunc("/v1/blobs/sha256/{sha256}", s.serveBlob)
	mux.Handle("GET /metrics", s.Metrics.handler(s.Log))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	mux.HandleFunc("GET /readyz", s.ready)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeRefusal(w, r.Method+" "+clip(r.URL.Path, 200), refuse(operator.ErrNotFound, r.Method+" "+clip(r.URL.Path, 200), "", "there is nothing at this path",
			"use kernwave, or the RPCs under /kernwave.v1.; plain paths are /v1/blobs/sha256/HEX, /metrics, /healthz and /readyz"))
	})
	return s.recovered(s.admitted(withCert(mux)))
}

// Run serves on ln, which it closes, until ctx ends; then it lets running requests end for a few seconds.
func (s *Server) Run(ctx context.Context, ln net.Listener) error {
	srv := &http.Server{
		Handler: s.Handler(),
		// Who is slower than this with a header is broken or means harm.
		ReadHeaderTimeout: 10 * time.Second,
		// Longer than the slowest pace of check-ins, so that idle agents keep their connection.
		IdleTimeout:    5 * time.Minute,
		MaxHeaderBytes: 64 << 10,
		ErrorLog:       slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug), // handshakes of scanners
		BaseContext:    func(net.Listener) context.Context { return context.WithoutCancel(ctx) },
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(tls.NewListener(ln, s.TLS())) }()
	var err error
	select {
	case err = <-done: // the listener broke
	case <-ctx.Done():
		within, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), 5*time.Second, errors.New("requests still ran at shutdown"))
		if srv.Shutdown(within) != nil {
			_ = srv.Close() // long downloads: agents resume them
		}
		cancel()
		err = <-done
	}
	s.background.Wait()
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve the API: %w", err)
}

// admitted bounds how many requests are answered at once. Health and metrics are let in always: they say why it is busy.
func (s *Server) admitted(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/healthz", "/readyz", "/metrics", rpc.FleetServiceStopProcedure: // a stop is never too busy
			next.ServeHTTP(w, r)
			return
		}
		select {
		case s.busy <- struct{}{}:
			defer func() { <-s.busy }()
			next.ServeHTTP(w, r)
		default:
			s.Metrics.refused.WithLabelValues("busy").Inc()
			err := refuse(errBusy, "answer the request", "", fmt.Sprintf("%d requests are being answered already", cap(s.busy)), "try again in a few seconds")
			if ew := connect.NewErrorWriter(); strings.HasPrefix(r.URL.Path, "/kernwave.v1.") && ew.IsSupported(r) {
				_ = ew.Write(w, r, refusal("answer the request", err))
				return
			}
			writeRefusal(w, "answer the request", err)
		}
	})
}

// limitTime closes connections of clients that take for ever over a small message.
func limitTime(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		within(w, rpcTime)
		next.ServeHTTP(w, r)
	})
}

// within sets the deadlines of one request. A transport that has none (a test's) is left alone.
func within(w http.ResponseWriter, d time.Duration) {
	c, end := http.NewResponseController(w), time.Now().Add(d) // of the connection, which is not on virtual time
	_ = c.SetReadDeadline(end)
	_ = c.SetWriteDeadline(end)
}

// recovered answers for handlers that panic outside of an RPC.
func (s *Server) recovered(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			v := recover()
			if v == nil {
				return
			}
			if err, ok := v.(error); ok && errors.Is(err, http.ErrAbortHandler) {
				panic(v)
			}
			s.panicked(r.Context(), r.URL.Path, v)
			writeRefusal(w, "answer the request", errPanic)
		}()
		next.ServeHTTP(w, r)
	})
}

// clip bounds foreign text that we say back.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}

func percentDecode(s string) (string, error) { return url.PathUnescape(s) }
