package api

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/operator"
)

// caller is who asks, as far as the procedure needs it. The zero value is anyone.
type caller struct {
	host    fleet.HostID
	cert    *x509.Certificate
	account operator.Account
}

type (
	certKey   struct{} // *x509.Certificate: what the client showed and proved to have the key of, unchecked
	callerKey struct{} // caller: authenticated and authorised
)

func callerOf(ctx context.Context) caller {
	c, _ := ctx.Value(callerKey{}).(caller)
	return c
}

// withCert passes the client's certificate on to the gate.
func withCert(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
			r = r.WithContext(context.WithValue(r.Context(), certKey{}, r.TLS.PeerCertificates[0]))
		}
		next.ServeHTTP(w, r)
	})
}

// gate lets a call in or refuses it, before anything of its body is read.
func (s *Server) gate(ctx context.Context, spec connect.Spec, _ connect.Peer, header http.Header) (context.Context, error) {
	p := procedures[spec.Procedure]
	c, err := s.authorise(ctx, p, header)
	if err != nil {
		s.Metrics.refused.WithLabelValues(codeOf(err).String()).Inc()
		return nil, refusal(p.op, err)
	}
	return context.WithValue(ctx, callerKey{}, c), nil
}

func (s *Server) authorise(ctx context.Context, p procedure, header http.Header) (c caller, err error) {
	now := s.Now()
	switch p.who {
	case whoAnyone:
		return c, nil
	case whoHost:
		c.cert, _ = ctx.Value(certKey{}).(*x509.Certificate)
		c.host, err = s.authenticateHost(ctx, p.op, c.cert, header, now)
		return c, err
	case whoOperator:
		if c.account, err = s.operators.authenticate(p.op, header.Get("Authorization"), now); err != nil {
			return c, err
		}
		if !c.account.Role.May(p.role) {
			return c, refuse(errForbidden, p.op, "", fmt.Sprintf("operator %s is %s, this needs %s", c.account.Name, c.account.Role, p.role),
				"ask an "+string(operator.RoleAdmin)+" to do it, or for a token with that role")
		}
		return c, nil
	}
	return c, refuse(errForbidden, p.op, "", "nobody may call this", "report this as a bug")
}

// answer turns what handlers return into refusals that explain themselves, and survives their panics.
func (s *Server) answer(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (res connect.AnyResponse, err error) {
		p := procedures[req.Spec().Procedure]
		defer func() {
			if v := recover(); v != nil {
				s.panicked(ctx, req.Spec().Procedure, v)
				err = errPanic
			}
			if err != nil {
				s.note(ctx, req.Spec().Procedure, err)
				res, err = nil, refusal(p.op, err)
			}
		}()
		if m, ok := req.Any().(proto.Message); ok && p.who == whoOperator {
			// What an operator asks for is done whole or not at all: a newer command line may mean something
			// that this server would silently leave out.
			if name := unknownField(m.ProtoReflect()); name != "" {
				return nil, refuse(operator.ErrInvalid, p.op, "", name+" has a field that this server does not know", "upgrade the server, or use a command line of its version")
			}
		}
		return next(ctx, req)
	}
}

var errPanic = errors.New("the control plane made a mistake; its log says more")

func (s *Server) panicked(ctx context.Context, what string, v any) {
	s.Metrics.panics.Inc()
	s.Log.ErrorContext(ctx, "handler panicked", "procedure", what, "err", fmt.Sprint(v), "stack", string(debug.Stack()), "next", "report this as a bug")
}

// note logs and counts what went wrong on our side, and counts what we refused.
func (s *Server) note(ctx context.Context, what string, err error) {
	code := codeOf(err)
	s.Metrics.refused.WithLabelValues(code.String()).Inc()
	switch code {
	case connect.CodeInternal:
		s.Log.ErrorContext(ctx, "request failed", "procedure", what, "err", err, "next", "report this as a bug, with the lines around it")
	case connect.CodeUnavailable:
		s.Log.ErrorContext(ctx, "request failed", "procedure", what, "err", err, "next", "look at the store's disk")
	}
}

// unknownField names the first message in m that came with a field we do not know.
func unknownField(m protoreflect.Message) (name string) {
	if len(m.GetUnknown()) > 0 {
		return string(m.Descriptor().Name())
	}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.IsMap() || f.Message() == nil: // our maps hold strings
		case f.IsList():
			for i := range v.List().Len() {
				if name = unknownField(v.List().Get(i).Message()); name != "" {
					return false
				}
			}
		default:
			name = unknownField(v.Message())
		}
		return name == ""
	})
	return name
}
