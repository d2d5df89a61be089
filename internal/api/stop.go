package api

import (
	"context"
	"errors"
	"time"

	"connectrpc.com/connect"

	kwv1 "github.com/kernwave/kernwave/api/gen/kernwave/v1"
	"github.com/kernwave/kernwave/internal/stop"
	"github.com/kernwave/kernwave/internal/store"
	"github.com/kernwave/kernwave/internal/wire"
)

// stopPatience is how long a stop waits for the file and the event before it answers with a warning. The stop itself
// is in force at once.
const stopPatience = 3 * time.Second

// Stop stops everything, now. What fails behind it becomes a warning, never a refusal.
func (s fleetService) Stop(ctx context.Context, req *connect.Request[kwv1.StopRequest]) (*connect.Response[kwv1.StopResponse], error) {
	who, now := callerOf(ctx).account.Name, s.Now()
	why := clip(req.Msg.GetWhy(), maxWhy) // a long reason is no reason not to stop
	if why == "" {
		why = "no reason given"
	}
	// Set is in force before it touches the disk; the disk may never answer.
	set := make(chan error, 1)
	event := make(chan error, 1)
	begun := make(chan struct{})
	s.background.Go(func() {
		set <- s.Parts.Stop.SetNow(stop.Order{Who: who, Why: why, At: now}, func() { close(begun) })
	})
	<-begun
	s.Control.Poke()
	s.Log.WarnContext(ctx, "everything is stopped", "who", who, "why", why)
	s.background.Go(func() {
		event <- s.record(ctx, store.Event{At: now, Who: who, Kind: "fleet.stopped", What: "everything was stopped", Why: why})
	})
	patience := time.NewTimer(stopPatience)
	defer patience.Stop()
	res := &kwv1.StopResponse{}
	for range 2 {
		select {
		case err := <-set:
			if err != nil {
				s.Log.ErrorContext(ctx, "the stop is not written down", "err", err, "next", "mend the disk, then stop again")
				warning := err.Error()
				if !errors.Is(err, stop.ErrReasonLost) {
					warning = "the stop would not survive a restart: " + warning
				}
				res.Warnings = append(res.Warnings, warning)
			}
			set = nil
		case err := <-event:
			if err != nil {
				s.Log.WarnContext(ctx, "the stop is not in the record", "err", err)
				res.Warnings = append(res.Warnings, "the stop is not in the record: "+err.Error())
			}
			event = nil
		case <-patience.C:
			if set != nil {
				res.Warnings = append(res.Warnings, "the stop file is not written yet: the disk does not answer; until it does, the stop would not survive a restart")
			}
			if event != nil {
				res.Warnings = append(res.Warnings, "the stop is not in the record yet: the store does not answer")
			}
			return connect.NewResponse(res), nil
		}
	}
	return connect.NewResponse(res), nil
}

// record appends an event for something that has happened already; the caller's going away does not change that.
func (s *Server) record(ctx context.Context, e store.Event) error {
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), 2*stopPatience, errors.New("the store does not answer"))
	defer cancel()
	return s.Store.Update(ctx, func(tx store.Tx) error {
		_, err := tx.AppendEvent(e)
		return err
	})
}

// LiftStop ends the stop. It is written down first: a lifted stop that nobody can explain is worse than a stop.
func (s fleetService) LiftStop(ctx context.Context, req *connect.Request[kwv1.LiftStopRequest]) (*connect.Response[kwv1.LiftStopResponse], error) {
	const op = "lift the stop"
	if err := checkWhy(op, req.Msg.GetWhy()); err != nil {
		return nil, err
	}
	stopped, is := s.Parts.Stop.Stopped()
	if !is {
		return connect.NewResponse(&kwv1.LiftStopResponse{}), nil
	}
	who := callerOf(ctx).account.Name
	what := "the stop was lifted; it was " + stopped
	if err := s.Control.MayLift(ctx, s.Now()); err != nil {
		if !req.Msg.GetForce() {
			return nil, err
		}
		what = "the stop was lifted by force, against: " + err.Error() + "; it was " + stopped
	}
	if err := s.record(ctx, store.Event{At: s.Now(), Who: who, Kind: "fleet.stop-lifted", What: what, Why: req.Msg.GetWhy()}); err != nil {
		return nil, err
	}
	s.Control.Accept()
	if err := s.Parts.Stop.Lift(); err != nil {
		return nil, err
	}
	s.Log.WarnContext(ctx, "the stop was lifted", "who", who)
	s.Control.Poke()
	return connect.NewResponse(&kwv1.LiftStopResponse{}), nil
}

// GetStatus is the control plane at a glance. It works when the store does not.
func (s fleetService) GetStatus(ctx context.Context, _ *connect.Request[kwv1.GetStatusRequest]) (*connect.Response[kwv1.GetStatusResponse], error) {
	st := s.Control.Status(s.Now())
	stopped, _ := s.Parts.Stop.Stopped()
	account := callerOf(ctx).account
	return connect.NewResponse(&kwv1.GetStatusResponse{
		Version: s.cfg.Version, Incarnation: s.Epoch.Incarnation, Term: s.Epoch.Term, Stopped: stopped,
		Hosts: int32(st.Hosts), Silent: int32(st.Silent), Frozen: int32(st.Frozen), LiveGrants: int32(st.LiveGrants), OpenIncidents: int32(st.OpenIncidents),
		LastTick: wire.TimeToProto(st.LastTick), StoreError: st.StoreError, Role: string(account.Role), Operator: account.Name,
		Rebuild: wire.RebuildToProto(st.Rebuild), Superseded: st.Superseded,
	}), nil
}
