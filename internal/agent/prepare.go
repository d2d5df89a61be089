package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kernwave/kernwave/fleet"
)

// ownInstall is how long an installation that a killed agent started may go on and hold the package manager's lock.
const ownInstall = 15 * time.Minute

// prepare gets the kernel onto the machine, beside the running one. It ends in prepared, in refused with the reason,
// or in committed when there is nothing to do. Only what may work later is tried again.
func (a *Agent) prepare(ctx context.Context, o operation, n now) result {
	refuse := func(err error) result {
		if ctx.Err() != nil {
			return result{retry: context.Cause(ctx)} // it was interrupted, that is no reason
		}
		o.Problem = problemOf(fleet.CauseRefused, err)
		o.enter(fleet.PhaseRefused, a.now())
		return result{next: &o}
	}
	facts, err := a.sys.Facts(ctx)
	if err != nil {
		return result{retry: fmt.Errorf("find out the facts: %w", err)}
	}
	if err := a.mayTakePart(&o, facts, n); err != nil {
		return refuse(err)
	}
	if err := a.sys.SecureWayBack(ctx); err != nil {
		return refuse(err)
	}
	if o.Kind == fleet.KindUpdate && n.Release == o.Kernel.Release {
		// The way back above made the running kernel the default. There is nothing to try.
		o.Committed = true
		o.Trial = &fleet.Trial{BootID: n.BootID, Release: n.Release, Checks: []fleet.Check{{
			Name: fleet.CheckAlreadyRunning, Passed: true, Detail: "the host ran " + n.Release + " already: there was no trial",
		}}}
		o.enter(fleet.PhaseCommitted, a.now())
		return result{next: &o}
	}
	if len(o.Kernel.Packages) > 0 {
		var files []string
		for _, p := range o.Kernel.Packages {
			f, err := a.fetch.Fetch(ctx, p)
			switch {
			case errors.Is(err, ErrRefused):
				return refuse(err)
			case err != nil:
				return result{retry: fmt.Errorf("fetch %s: %w", p.Name, err)}
			}
			files = append(files, f)
		}
		if err := a.sys.CanInstall(ctx, o.Kernel, files); err != nil {
			if o.Resumed && o.age(a.now()) < ownInstall {
				return result{retry: err}
			}
			return refuse(err)
		}
		if err := a.sys.Install(ctx, o.Kernel, files); err != nil {
			return refuse(err)
		}
	}
	ok, err := a.sys.Installed(ctx, o.Kernel.Release)
	switch {
	case err != nil:
		return refuse(err)
	case !ok && len(o.Kernel.Packages) == 0:
		return refuse(&fleet.Error{
			Op: "go back to " + o.Kernel.Release, Err: errors.New("it is not installed any more, and no packages of it are known"),
			Next: "add its packages with kernwave kernel add",
		})
	case !ok:
		return refuse(&fleet.Error{
			Op: "install " + o.Kernel.Release, Err: errors.New("its packages are installed, but the boot loader has no entry for it"),
			Next: "compare the kernel's release with what its packages bring into /boot",
		})
	}
	// Installing may have written the boot menu anew.
	if err := a.sys.SecureWayBack(ctx); err != nil {
		return refuse(err)
	}
	o.enter(fleet.PhasePrepared, a.now())
	return result{next: &o}
}

// mayTakePart refuses what must not even be begun on this host.
func (a *Agent) mayTakePart(o *operation, f fleet.Facts, n now) error {
	op := fmt.Sprintf("prepare kernel %s", o.Kernel.ID)
	switch o.Kind {
	case fleet.KindUpdate:
		if o.Kernel.Release == "" {
			return &fleet.Error{Op: op, Err: errors.New("the operation names no release"), Next: "report this as a bug"}
		}
		if why := o.Kernel.Fits(f); why != "" {
			return &fleet.Error{Op: op, Err: errors.New(why), Next: "leave the host out of the selection"}
		}
	case fleet.KindReboot:
		if o.Kernel.Release != "" && o.Kernel.Release != n.Release {
			return &fleet.Error{
				Op: "reboot into the same kernel", Err: fmt.Errorf("the host runs %s, not %s", n.Release, o.Kernel.Release),
				Next: "start it again",
			}
		}
		o.Kernel.Release, o.Kernel.Packages = n.Release, nil
	default:
		return &fleet.Error{
			Op: op, Err: fmt.Errorf("the operation is of kind %q, which this agent does not know", o.Kind),
			Next: "upgrade kernwave-agent",
		}
	}
	if n.TrialBoot != "" && f.Boot.Default != n.Release {
		return &fleet.Error{
			Op: op, Err: fmt.Errorf("the host runs %s on trial for operation %s, and it was not committed", n.Release, n.TrialBoot),
			Next: "reboot the host: a plain boot runs its default kernel",
		}
	}
	switch f.Boot.OneShot {
	case fleet.OneShotAssumed, fleet.OneShotProven:
	default:
		why := f.Boot.OneShotWhy
		if why == "" {
			why = "it could not be found out"
		}
		return &fleet.Error{
			Op: op, Err: fmt.Errorf("the boot loader cannot boot a kernel for one boot only: %s", why),
			Next: "run kernwave-agent doctor on the host",
		}
	}
	if _, err := a.programs.Load(); err != nil {
		return &fleet.Error{Op: op, Err: fmt.Errorf("the operator's programs cannot be read: %w", err), Next: "mend the files named, then retry the host"}
	}
	return nil
}
