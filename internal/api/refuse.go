package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"connectrpc.com/connect"

	kwv1 "github.com/kernwave/kernwave/api/gen/kernwave/v1"
	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/operator"
	"github.com/kernwave/kernwave/internal/store"
)

// Sorts of refusals that only this room makes; see operator.ErrInvalid and its neighbours for the others.
var (
	errUnauthenticated = errors.New("unauthenticated") // we do not know who asks
	errForbidden       = errors.New("forbidden")       // we do, and they may not
	errBusy            = errors.New("busy")            // too much at once: come back
	errTooLarge        = errors.New("too large")
)

// refuse makes an error that explains itself: sort is one of the sentinels, why a sentence, next what to do.
func refuse(sort error, op string, host fleet.HostID, why, next string) error {
	return &fleet.Error{Op: op, Host: host, Err: operator.Refuse(sort, errors.New(why)), Next: next}
}

// codeOf chooses the status code. A [fleet.Error] of no known sort is a refusal whose time has not come; anything else
// is our own failure.
func codeOf(err error) connect.Code {
	is := func(target error) bool { return errors.Is(err, target) }
	_, broken := errors.AsType[*store.Error](err)
	_, explained := errors.AsType[*fleet.Error](err)
	switch {
	case is(errUnauthenticated):
		return connect.CodeUnauthenticated
	case is(errForbidden):
		return connect.CodePermissionDenied
	case is(errBusy), is(errTooLarge):
		return connect.CodeResourceExhausted
	case is(operator.ErrInvalid):
		return connect.CodeInvalidArgument
	case is(operator.ErrNotFound):
		return connect.CodeNotFound
	case is(operator.ErrExists):
		return connect.CodeAlreadyExists
	case is(operator.ErrState):
		return connect.CodeFailedPrecondition
	case is(context.Canceled):
		return connect.CodeCanceled
	case is(context.DeadlineExceeded):
		return connect.CodeDeadlineExceeded
	case broken, is(store.ErrFenced):
		return connect.CodeUnavailable
	case explained:
		return connect.CodeFailedPrecondition
	}
	return connect.CodeInternal
}

// explain says what op came to, with a next step for errors that bring none.
func explain(op string, err error) *kwv1.ErrorDetail {
	d := &kwv1.ErrorDetail{Op: op, Why: err.Error()}
	if e, ok := errors.AsType[*fleet.Error](err); ok {
		d.Op, d.Host, d.Next = e.Op, string(e.Host), e.Next
		if e.Err != nil {
			d.Why = e.Err.Error()
		}
	}
	if d.Next == "" && errors.Is(err, store.ErrFenced) {
		d.Next = "ask the control plane that has taken over; this one is ending"
	}
	if d.Next == "" {
		d.Next = nextFor(codeOf(err))
	}
	return d
}

// nextFor is what to do about an error that says nothing better.
func nextFor(c connect.Code) string {
	switch c {
	case connect.CodeInvalidArgument, connect.CodeUnimplemented, connect.CodeOutOfRange:
		return "check the request against the API's description, and that both sides have the same version"
	case connect.CodeNotFound:
		return "check the name"
	case connect.CodeResourceExhausted:
		return "send less at once, or later"
	case connect.CodeUnavailable:
		return "look at the control plane's log and its disk; kernwave stop works meanwhile"
	case connect.CodeCanceled, connect.CodeDeadlineExceeded:
		return "try again; if it stays slow, look at the control plane's log"
	case connect.CodeUnauthenticated:
		return "use an operator's token or a host's certificate"
	}
	return "look at the control plane's log"
}

// refusal makes err one that Connect and gRPC can carry, with its explanation.
func refusal(op string, err error) *connect.Error {
	if e, ok := errors.AsType[*connect.Error](err); ok && len(e.Details()) > 0 {
		return e
	}
	detail := explain(op, err)
	text := detail.GetOp()
	if detail.GetHost() != "" {
		text += " on " + detail.GetHost()
	}
	e := connect.NewError(codeOf(err), errors.New(text+": "+detail.GetWhy()))
	if d, err := connect.NewErrorDetail(detail); err == nil {
		e.AddDetail(d)
	}
	return e
}

// writeRefusal answers a plain HTTP request with the same fields as JSON.
func writeRefusal(w http.ResponseWriter, op string, err error) {
	code := codeOf(err)
	writeExplained(w, statusOf(code, err), code, explain(op, err))
}

func writeExplained(w http.ResponseWriter, status int, code connect.Code, d *kwv1.ErrorDetail) {
	b, err := json.Marshal(struct {
		Code    string `json:"code"`
		Message string `json:"message"`
		Op      string `json:"op"`
		Host    string `json:"host,omitempty"`
		Why     string `json:"why"`
		Next    string `json:"next"`
	}{code.String(), d.GetOp() + ": " + d.GetWhy(), d.GetOp(), d.GetHost(), d.GetWhy(), d.GetNext()})
	if err != nil {
		panic(err) // strings only
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Del("Content-Length")
	h.Del("ETag")
	if status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests {
		h.Set("Retry-After", "2")
	}
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n')) // whoever went away does not need it
}

// statusOf is for plain HTTP; Connect and gRPC have their own tables.
func statusOf(c connect.Code, err error) int {
	switch c {
	case connect.CodeInvalidArgument:
		return http.StatusBadRequest
	case connect.CodeUnauthenticated:
		return http.StatusUnauthorized
	case connect.CodePermissionDenied:
		return http.StatusForbidden
	case connect.CodeNotFound:
		return http.StatusNotFound
	case connect.CodeAlreadyExists, connect.CodeFailedPrecondition:
		return http.StatusConflict
	case connect.CodeResourceExhausted:
		if errors.Is(err, errTooLarge) {
			return http.StatusRequestEntityTooLarge
		}
		return http.StatusServiceUnavailable
	case connect.CodeUnavailable, connect.CodeCanceled, connect.CodeDeadlineExceeded:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}
