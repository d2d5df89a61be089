// Package clitest is a control plane for tests of the command line: it answers
// from memory with a small fleet in a known state at a known time, refuses as
// the real one does, and decides nothing.
//
//	s, err := clitest.Start(clitest.Small())
//	defer s.Close()
//	// KERNWAVE_SERVER=s.URL KERNWAVE_CA=s.CAFile KERNWAVE_TOKEN=clitest.AdminToken
package clitest

import (
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"

	kwv1 "github.com/kernwave/kernwave/api/gen/kernwave/v1"
	"github.com/kernwave/kernwave/api/gen/kernwave/v1/kernwavev1connect"
	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/operator"
)

// Tokens of the operators that every fleet has.
const (
	AdminToken   = "kwo_admin-0123456789"
	ViewerToken  = "kwo_viewer-0123456789"
	ExpiredToken = "kwo_expired-0123456789"
)

// Now is when the fleets of this package are looked at.
var Now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// Fleet is what the control plane knows. Nothing in it may be changed after [Start].
type Fleet struct {
	Hosts      []operator.Host
	Operations map[fleet.HostID][]fleet.Operation // newest first
	Why        map[fleet.HostID]operator.Why
	Kernels    []fleet.Kernel
	Approvals  []operator.Approval
	// Rollouts, newest first. A rollout with several versions goes on by one each time it is asked for.
	Rollouts [][]operator.Rollout
	// AwayFrom and AwayTo count questions for a rollout, from 1: those from the one up to the other are not answered.
	AwayFrom, AwayTo int

	Incidents []operator.Incident
	Events    []operator.Event
	Budgets   []operator.Budget
	Use       []operator.GroupUse
	Stopped   string
	// StoreError makes the store sick: only status and stop answer.
	StoreError string
}

// Server is a running control plane.
type Server struct {
	URL    string
	CAFile string

	srv *httptest.Server
	dir string

	mu        sync.Mutex
	f         Fleet
	asked     map[string]int // how often each rollout was asked for
	accounts  []operator.Account
	blobs     map[string]int64
	starts    map[string]string // idempotency key to rollout
	busy      int               // how many calls still get "unavailable"
	hang      bool
	questions int // for rollouts
	newEvents []operator.Event
	rotating  bool
}

// Start serves f until Close.
func Start(f Fleet) (*Server, error) {
	dir, err := os.MkdirTemp("", "clitest-")
	if err != nil {
		return nil, err
	}
	s := &Server{
		f: f, dir: dir, asked: map[string]int{}, blobs: map[string]int64{}, starts: map[string]string{},
		accounts: []operator.Account{
			{Name: "ada", Role: operator.RoleAdmin, CreatedAt: Now.Add(-90 * 24 * time.Hour)},
			{Name: "ci", Role: operator.RoleViewer, CreatedAt: Now.Add(-30 * 24 * time.Hour), ExpiresAt: Now.Add(30 * 24 * time.Hour)},
			{Name: "old", Role: operator.RoleOperator, CreatedAt: Now.Add(-60 * 24 * time.Hour), ExpiresAt: Now.Add(-24 * time.Hour)},
		},
	}
	mux := http.NewServeMux()
	gate := connect.WithInterceptors(connect.UnaryInterceptorFunc(s.gate))
	mux.Handle(kernwavev1connect.NewFleetServiceHandler(&fleetService{s: s}, gate))
	mux.Handle(kernwavev1connect.NewKernelServiceHandler(&kernelService{s: s}, gate))
	mux.Handle(kernwavev1connect.NewRolloutServiceHandler(&rolloutService{s: s}, gate))
	mux.HandleFunc("/v1/blobs/sha256/{sum}", s.blob)
	s.srv = httptest.NewUnstartedServer(mux)
	s.srv.EnableHTTP2 = true
	s.srv.Config.ErrorLog = log.New(io.Discard, "", 0) // handshakes that fail on purpose
	s.srv.StartTLS()
	s.URL = s.srv.URL
	s.CAFile = filepath.Join(dir, "ca.pem")
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.srv.Certificate().Raw})
	if err := os.WriteFile(s.CAFile, ca, 0o600); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// Close ends the server and removes its files.
func (s *Server) Close() {
	s.Stop()
	os.RemoveAll(s.dir)
}

// Stop ends the server; its CA file stays.
func (s *Server) Stop() { s.srv.Close() }

// Busy makes the next n calls fail as unavailable.
func (s *Server) Busy(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy = n
}

// Hang lets every later call wait until its caller gives up.
func (s *Server) Hang() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hang = true
}

// Happen appends an event, as if something happened.
func (s *Server) Happen(e operator.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.newEvents = append(s.newEvents, e)
}

// refuse makes the errors of the real API: a code, and an ErrorDetail.
func refuse(code connect.Code, op, host, why, next string) error {
	err := connect.NewError(code, errors.New(op+": "+why))
	d, derr := connect.NewErrorDetail(&kwv1.ErrorDetail{Op: op, Host: host, Why: why, Next: next})
	if derr != nil {
		panic(derr)
	}
	err.AddDetail(d)
	return err
}

// account says whose token it is.
func (s *Server) account(header string) (operator.Account, error) {
	token := strings.TrimPrefix(header, "Bearer ")
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.accounts {
		switch {
		case a.Name == "ada" && token == AdminToken, a.Name == "ci" && token == ViewerToken:
			return a, nil
		case a.Name == "old" && token == ExpiredToken:
			return operator.Account{}, refuse(connect.CodeUnauthenticated, "authenticate", "",
				"the token of operator old ran out at "+a.ExpiresAt.Format(time.RFC3339), "ask an admin for a new one")
		}
	}
	return operator.Account{}, refuse(connect.CodeUnauthenticated, "authenticate", "", "nobody has this operator's token",
		"ask an admin for a new one; the old one may have been deleted")
}

// reads are the methods that a viewer may call.
func needs(method string) operator.Role {
	switch method {
	case "ListHosts", "GetHost", "WhyHost", "ListBudgets", "ListEvents", "ListIncidents", "GetStatus", "ListKernels",
		"PlanRollout", "GetRollout", "ListRollouts":
		return operator.RoleViewer
	case "RevokeHost", "CreateEnrolToken", "CreateOperator", "ListOperators", "DeleteOperator":
		return operator.RoleAdmin
	}
	return operator.RoleOperator
}

func (s *Server) busyNow() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.busy == 0 {
		return false
	}
	s.busy--
	return true
}

// caller carries the account through a request.
type callerKey struct{}

// well says whether method works while the store is sick.
func well(method string) bool {
	return method == "GetStatus" || method == "Stop" || method == "LiftStop"
}

func (s *Server) allow(header, method string) (operator.Account, error) {
	if s.busyNow() {
		return operator.Account{}, refuse(connect.CodeUnavailable, method, "", "the control plane is starting", "wait a moment")
	}
	who, err := s.account(header)
	if err != nil {
		return who, err
	}
	if need := needs(method); !who.Role.May(need) {
		return who, refuse(connect.CodePermissionDenied, "authorise", "",
			fmt.Sprintf("%s is %s, this needs %s", who.Name, who.Role, need), "ask an operator with that role")
	}
	if s.f.StoreError != "" && !well(method) {
		return who, refuse(connect.CodeUnavailable, "read the store", "", s.f.StoreError, "look at the control plane's log and its disk; kernwave stop works meanwhile")
	}
	return who, nil
}
