package agenttest

import (
	"context"
	"time"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/agent"
)

func (s cutSystem) CanInstall(ctx context.Context, k fleet.Kernel, files []string) error {
	return s.c.pass("CanInstall", nil, func() error { return s.System.CanInstall(ctx, k, files) })
}

func (s cutSystem) Install(ctx context.Context, k fleet.Kernel, files []string) error {
	return s.c.pass("Install", nil, func() error { return s.System.Install(ctx, k, files) })
}

func (s cutSystem) SecureWayBack(ctx context.Context) error {
	return s.c.pass("SecureWayBack", nil, func() error { return s.System.SecureWayBack(ctx) })
}

func (s cutSystem) ArmTrial(ctx context.Context, t agent.TrialBoot) error {
	return s.c.pass("ArmTrial", nil, func() error { return s.System.ArmTrial(ctx, t) })
}

func (s cutSystem) Disarm(ctx context.Context) error {
	return s.c.pass("Disarm", nil, func() error { return s.System.Disarm(ctx) })
}

func (s cutSystem) Commit(ctx context.Context, release string) error {
	return s.c.pass("Commit", nil, func() error { return s.System.Commit(ctx, release) })
}

func (s cutSystem) OneShotProven(ctx context.Context) error {
	return s.c.pass("OneShotProven", nil, func() error { return s.System.OneShotProven(ctx) })
}

func (s cutSystem) ChecksPassed(ctx context.Context, id fleet.OperationID) error {
	return s.c.pass("ChecksPassed", nil, func() error { return s.System.ChecksPassed(ctx, id) })
}

func (s cutSystem) Reboot(ctx context.Context, why string) error {
	return s.c.pass("Reboot", nil, func() error { return s.System.Reboot(ctx, why) })
}

func (s cutSystem) CrashText(ctx context.Context, since time.Time) (text, why string) {
	_ = s.c.pass("CrashText", nil, func() error { // which has no error
		text, why = s.System.CrashText(ctx, since)
		return nil
	})
	return text, why
}
