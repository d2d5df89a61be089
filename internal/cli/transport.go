package cli

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"

	"connectrpc.com/connect"
)

// explainTransport explains why no answer came: nothing listens, another certificate, a time limit. ok is false when
// err is nothing of that kind.
func (a *app) explainTransport(err error) (e explanation, ok bool) {
	e = explanation{Op: "reach the control plane at " + a.conn.serverName(), Code: ExitUnreachable}
	from := a.conn.serverFrom()
	if why, next, ok := explainTLS(err); ok {
		e.Why, e.Next = why, next
		if strings.Contains(next, "CA") {
			e.Next += " (now: " + a.conn.caFrom() + ")"
		}
		return e, true
	}
	dns, isDNS := errors.AsType[*net.DNSError](err)
	switch {
	case isDNS:
		e.Why = "the name " + dns.Name + " has no address"
		e.Next = "check the server's name (" + from + ")"
	case errors.Is(err, syscall.ECONNREFUSED):
		e.Why = "connection refused"
		e.Next = `check that "kernwave server" runs there, and the address (` + from + ")"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		e.Why = "there is no route to it"
		e.Next = "check the network, and the address (" + from + ")"
	case errors.Is(err, context.DeadlineExceeded), connect.CodeOf(err) == connect.CodeDeadlineExceeded, isTimeout(err):
		e.Why = "no answer within " + shortDuration(a.timeout)
		e.Next = "check the network and the control plane's load; --timeout waits longer"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.EPIPE):
		e.Why = "the connection broke off"
		e.Next = "repeat it; if it stays, look at the control plane's log"
	default:
		c, isConnect := errors.AsType[*connect.Error](err)
		if !isConnect || c.Code() != connect.CodeUnavailable {
			return explanation{}, false
		}
		e.Why = c.Message()
		e.Next = "check the network, and the address (" + from + ")"
	}
	return e, true
}

func explainTLS(err error) (why, next string, ok bool) {
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return "its certificate is not signed by the CA that you trust",
			"copy the CA from the control plane's data directory and name it with --ca", true
	}
	if h, ok := errors.AsType[x509.HostnameError](err); ok {
		names := append([]string{}, h.Certificate.DNSNames...)
		for _, ip := range h.Certificate.IPAddresses {
			names = append(names, ip.String())
		}
		return "its certificate is for " + orNone(strings.Join(names, ", ")) + ", not for " + h.Host,
			"use one of these names in --server, or start the server with this one among its names", true
	}
	if c, ok := errors.AsType[x509.CertificateInvalidError](err); ok {
		if c.Reason == x509.Expired {
			return "its certificate is not valid now: " + c.Detail,
				"check the clocks of both machines; the server renews its certificate when it starts", true
		}
		return "its certificate is not valid: " + c.Error(), "check the CA, and that this is the control plane", true
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return "what listens there does not speak TLS", "check the port in --server", true
	}
	if strings.Contains(err.Error(), "server gave HTTP response to HTTPS client") { // net/http has no type for it
		return "what listens there does not speak TLS", "check the port in --server", true
	}
	return "", "", false
}

func isTimeout(err error) bool {
	n, ok := errors.AsType[net.Error](err)
	return ok && n.Timeout()
}

func orNone(s string) string {
	if s == "" {
		return "no name"
	}
	return s
}
