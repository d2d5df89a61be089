package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	kwv1 "github.com/kernwave/kernwave/api/gen/kernwave/v1"
)

// explained adds our explanation to the refusals that the RPC library makes before any code of ours runs: a body that
// is malformed or too large, a method or a content type that it does not know.
func explained(next http.Handler) http.Handler {
	errors := connect.NewErrorWriter()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc-web") {
			// Its errors hide in the body, and nothing of ours speaks it.
			writeExplained(w, http.StatusUnsupportedMediaType, connect.CodeUnimplemented, &kwv1.ErrorDetail{
				Op: "read the request", Why: "gRPC-Web is not spoken here", Next: "use Connect, gRPC or JSON: \"Content-Type: application/json\"",
			})
			return
		}
		e := &explainer{ResponseWriter: w}
		next.ServeHTTP(e, r)
		e.finish(r, errors)
	})
}

// explainer holds back answers that are errors until it knows whether they explain themselves.
type explainer struct {
	http.ResponseWriter
	status int
	held   bytes.Buffer
}

func (e *explainer) holds() bool { return e.status >= http.StatusBadRequest }

func (e *explainer) WriteHeader(status int) {
	if e.status != 0 {
		return
	}
	if e.status = status; !e.holds() {
		e.ResponseWriter.WriteHeader(status)
	}
}

func (e *explainer) Write(b []byte) (int, error) {
	e.WriteHeader(http.StatusOK)
	if e.holds() {
		return e.held.Write(b) // an error's JSON: small
	}
	return e.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach deadlines.
func (e *explainer) Unwrap() http.ResponseWriter { return e.ResponseWriter }

// Flush is what the library asks for directly.
func (e *explainer) Flush() {
	if f, ok := e.ResponseWriter.(http.Flusher); ok && !e.holds() {
		f.Flush()
	}
}

func (e *explainer) finish(r *http.Request, ew *connect.ErrorWriter) {
	if !e.holds() {
		explainTrailer(e.Header())
		return
	}
	var said struct {
		Code    string            `json:"code"`
		Message string            `json:"message"`
		Details []json.RawMessage `json:"details"`
	}
	known := json.Unmarshal(e.held.Bytes(), &said) == nil && said.Code != ""
	if known && len(said.Details) > 0 {
		e.ResponseWriter.WriteHeader(e.status)
		_, _ = e.ResponseWriter.Write(e.held.Bytes())
		return
	}
	e.Header().Del("Content-Length")
	if !known {
		d := &kwv1.ErrorDetail{Op: r.Method + " " + r.URL.Path, Why: strings.ToLower(http.StatusText(e.status)), Next: nextFor(connect.CodeUnimplemented)}
		switch e.status {
		case http.StatusMethodNotAllowed:
			d.Why, d.Next = "this is called with POST", "curl --data '{}' --header 'Content-Type: application/json' …"
		case http.StatusUnsupportedMediaType:
			d.Why, d.Next = "the content type is none that is read here", "use \"Content-Type: application/json\", application/proto or application/grpc"
		}
		writeExplained(e.ResponseWriter, e.status, connect.CodeUnimplemented, d)
		return
	}
	var code connect.Code
	if code.UnmarshalText([]byte(said.Code)) != nil {
		code = connect.CodeUnknown
	}
	err := connect.NewError(code, errors.New(said.Message))
	if d, derr := connect.NewErrorDetail(libraryRefusal(r.URL.Path, code, said.Message)); derr == nil {
		err.AddDetail(d)
	}
	_ = ew.Write(e.ResponseWriter, r, err) // whoever went away does not need it
}

// libraryRefusal explains an error that the RPC library made.
func libraryRefusal(path string, code connect.Code, message string) *kwv1.ErrorDetail {
	d := &kwv1.ErrorDetail{Op: "read the request", Why: message, Next: nextFor(code)}
	if p, ok := procedures[path]; ok {
		d.Op = p.op
	}
	return d
}

// explainTrailer does the same for gRPC, whose errors are trailers of an answer that is "200 OK".
func explainTrailer(h http.Header) {
	const status, message, details = http.TrailerPrefix + "Grpc-Status", http.TrailerPrefix + "Grpc-Message", http.TrailerPrefix + "Grpc-Status-Details-Bin"
	n, err := strconv.ParseInt(h.Get(status), 10, 32)
	if err != nil || n == 0 || h.Get(details) != "" {
		return
	}
	code := connect.Code(n)
	text := h.Get(message)
	if plain, err := percentDecode(text); err == nil {
		text = plain
	}
	detail, err := anypb.New(libraryRefusal("", code, text))
	if err != nil {
		return
	}
	body, err := proto.Marshal(detail)
	if err != nil {
		return
	}
	// google.rpc.Status: code = 1, message = 2, repeated google.protobuf.Any details = 3.
	var b []byte
	b = protowire.AppendVarint(protowire.AppendTag(b, 1, protowire.VarintType), uint64(n))
	b = protowire.AppendString(protowire.AppendTag(b, 2, protowire.BytesType), text)
	b = protowire.AppendBytes(protowire.AppendTag(b, 3, protowire.BytesType), body)
	h.Set(details, connect.EncodeBinaryHeader(b))
}
