package scenario

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/lab"
)

// cutHost loses its power in the middle of a trial, and then what it had not flushed; hangHost stops for good in another.
const (
	cutHost  = "web-2"
	hangHost = "web-1"
)

// cutAndHang cuts the power of one host in its trial, while another tries a kernel that hangs before anything could have
// armed a watchdog: it has to be said lost in time, and comes back by a power cycle from outside.
func cutAndHang(b *bench, hangs, good lab.Kernel) {
	ctx := b.t.Context()
	if err := b.AddKernel(ctx, "plain", good); err != nil { // there already in a whole run
		b.t.Fatal(err)
	}
	// Both are of one type: the one that is lost uses up half of this.
	if _, err := b.CLI(ctx, "budget", "set", "type", "2"); err != nil {
		b.t.Fatal(err)
	}
	b.on(cutHost, "echo none > /etc/lab-bad-kernels")
	was, _ := b.release(hangHost)
	hang := b.startHang(hangHost, hangs)

	from, _ := b.release(cutHost)
	n := len(b.Fleet.Boots(cutHost))
	cut := b.start("plain", "--selector", "id="+cutHost)
	b.until(updateLimit, cutHost+": the trial's kernel is up", func() bool {
		boots := b.Fleet.Boots(cutHost)
		return len(boots) > n && boots[len(boots)-1].Release == good.Release
	})
	b.cut(cutHost, from)
	b.endsBackOn(cut, cutHost, from, fleet.PhaseFellBack, fleet.CauseNotBooted)
	b.change("abort", cut, "--yes", "--why", "as expected")

	b.lostAndPowerCycled(hang, hangHost, was)
	b.untilStatus(cut, "aborted")
}

// startHang offers a host a kernel that hangs before systemd starts.
func (b *bench) startHang(host string, k lab.Kernel) string {
	b.t.Helper()
	bad, err := b.im.Repack(b.t.Context(), k, lab.Variant{Fault: lab.Hang})
	if err != nil {
		b.t.Fatal(err)
	}
	if err := b.AddKernel(b.t.Context(), "hangs", bad); err != nil {
		b.t.Fatal(err)
	}
	return b.start("hangs", "--selector", "id="+host, "--return-within", "90s")
}

// lostAndPowerCycled waits until a host that hangs is said lost, cycles its power, and checks that its return is told
// as it was.
func (b *bench) lostAndPowerCycled(id, host, was string) {
	b.t.Helper()
	ctx := b.t.Context()
	b.until(rolloutLimit, host+" did not return, and its rollout is paused", func() bool { return b.rollout(id).Status == "paused" })
	op := b.rollout(id).Hosts[0].Operation
	if op == nil || op.Problem == nil || op.Problem.Cause != fleet.CauseLost || !strings.Contains(op.Problem.What, "did not return") || !strings.Contains(op.Problem.Next, "power cycle") {
		b.t.Fatalf("%s: the operation says %+v, want the cause %s", host, op, fleet.CauseLost)
	}
	if op.Phase.Ended() {
		b.t.Errorf("%s: the operation ended %s while the host is gone: its budget would be free", host, op.Phase)
	}
	fmt.Printf("    %s: %s; expected %s; next: %s\n", host, op.Problem.What, op.Problem.Expected, op.Problem.Next)
	if boots := b.Fleet.Boots(host); boots[len(boots)-1].Release != was {
		b.t.Errorf("%s came up on %s by itself: it did not hang", host, boots[len(boots)-1].Release)
	}
	if err := errors.Join(b.Fleet.PowerOff(host), b.Fleet.PowerOn(ctx, host)); err != nil {
		b.t.Fatal(err)
	}
	b.endsBackOn(id, host, was, fleet.PhaseFellBack, fleet.CauseNotBooted)
	var told []string
	for _, e := range b.events() {
		if e.Rollout == id && string(e.Host) == host && strings.Contains(e.What+e.Why, "did not return") {
			told = append(told, "lost")
		}
		if e.Rollout == id && string(e.Host) == host && e.Kind == "operation.fell-back" {
			told = append(told, "back")
		}
	}
	slices.Sort(told)
	if told = slices.Compact(told); !slices.Equal(told, []string{"back", "lost"}) {
		b.t.Errorf("%s: the events tell only that it is %v; both its loss and its return belong there", host, told)
	}
	b.change("abort", id, "--yes", "--why", "as expected")
	b.untilStatus(id, "aborted")
}
