package control

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand"
	"testing"
	"time"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/operator"
	"github.com/kernwave/kernwave/internal/store"
	"github.com/kernwave/kernwave/internal/store/sqlite"
	"github.com/kernwave/kernwave/rollout"
)

// benchHosts is a fleet of the size that one process and SQLite must carry on two cores: a tick below one second of
// CPU, a check-in without change below one millisecond.
const benchHosts = 5000

// benchFleet is a control plane over a real store, in the middle of the last wave of a rollout to everybody: half
// committed, PrepareAhead prepared, one of them with a grant.
func benchFleet(b *testing.B) (c *Control, now time.Time, waiting, granted fleet.Report, g store.Grant) {
	b.Helper()
	st, err := sqlite.OpenTemp(sqlite.Options{Rand: rand.New(rand.NewSource(1))})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { st.Close() })
	now = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	start, err := st.Begin(b.Context(), store.Place{MachineID: "m", Dir: "d", Instance: "i", At: now})
	if err != nil {
		b.Fatal(err)
	}
	c, err = New(Config{From: start.Incarnation, Now: func() time.Time { return now }}, st, &stopFlag{}, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	update := func(f func(store.Tx) error) {
		b.Helper()
		if err := st.Update(b.Context(), f); err != nil {
			b.Fatal(err)
		}
	}
	k := fleet.Kernel{
		ID: "new", Version: "6.12.117-1", Release: newRelease, Family: "debian", Arch: "amd64",
		Flavour: "cloud-amd64", Packages: []fleet.Package{{Name: "linux-image", SHA256: "ab", Size: 1}},
	}
	update(func(tx store.Tx) error {
		for i := range benchHosts {
			h := benchHost(i, now)
			if err := tx.PutHost(h); err != nil {
				return err
			}
			c.heard(h.ID, now)
		}
		return tx.AddKernel(k)
	})
	r, err := c.StartRollout(b.Context(), "ada", operator.RolloutSpec{Kernel: "new"}, "", now)
	if err != nil {
		b.Fatal(err)
	}
	update(func(tx store.Tx) error {
		for _, t := range r.Types {
			if _, err := tx.AppendApproval(store.Approval{Kernel: k.ID, Checksum: k.Checksum(), Type: t.ID, TypeKeyVersion: fleet.TypeKeyVersion, At: now, Evidence: "trial passed"}); err != nil {
				return err
			}
		}
		row, err := tx.Rollout(r.ID)
		if err != nil {
			return err
		}
		var s rollout.State
		if err := json.Unmarshal(row.State, &s); err != nil {
			return err
		}
		s.Stage = len(s.Stages) - 1
		if row.State, err = json.Marshal(s); err != nil {
			return err
		}
		for i, h := range r.Hosts[:benchHosts/2+rollout.PrepareAhead] {
			op := fleet.Operation{
				ID: fleet.OperationID(fmt.Sprint("o-", i)), Host: h.ID, Kind: fleet.KindUpdate, Kernel: k.ID, Release: k.Release, Owner: r.ID,
				Stage: h.Stage, Phase: fleet.PhaseCommitted, FromRelease: oldRelease, FromBootID: "b7a4b1d2-0a8e-4d53-9f62-0d7f4b1f5f1e",
				CreatedAt: now, PhaseSince: now, Trial: &fleet.Trial{
					BootID: "0c1c5f1b-7a3f-4f57-a1a1-6d1f8f1f0b11", Release: k.Release, BootSec: 21.5,
					Checks: []fleet.Check{{Name: "kernel", Passed: true}, {Name: "system", Passed: true}, {Name: "network", Passed: true}, {Name: "http", Passed: true, Sec: 0.2}},
				},
			}
			if i >= benchHosts/2 {
				op.Phase, op.Trial = fleet.PhasePrepared, nil
				granted = waiting
				waiting = fleet.Report{Host: h.ID, FactsHash: "x", Operation: &fleet.OperationReport{
					ID: op.ID, Kind: op.Kind, Kernel: op.Kernel,
					Release: op.Release, Phase: op.Phase, FromRelease: op.FromRelease, FromBootID: op.FromBootID,
				}}
			}
			if err := tx.PutOperation(op); err != nil {
				return err
			}
		}
		g = store.Grant{ID: "g-1", Operation: granted.Operation.ID, Host: granted.Host, GivenAt: now, ExpiresAt: now.Add(c.cfg.GrantLife)}
		for _, rep := range []*fleet.Report{&waiting, &granted} {
			h, err := tx.Host(rep.Host)
			if err != nil {
				return err
			}
			rep.Now, rep.FactsHash = h.Now, h.FactsHash
		}
		return errors.Join(tx.PutGrant(g), tx.PutRollout(row))
	})
	return c, now, waiting, granted, g
}

func benchHost(i int, now time.Time) fleet.Host {
	f := fleet.Facts{
		Hardware: fleet.Hardware{Vendor: "Dell Inc.", Model: fmt.Sprint("PowerEdge R", 600+i%10), Serial: fmt.Sprint("SN", i), BIOSVersion: "2.12.4"},
		CPU:      fleet.CPU{Model: "Intel(R) Xeon(R) Gold 6338 CPU @ 2.00GHz", Cores: 128, Microcode: "0xd0003b9"}, MemoryBytes: 1 << 38,
		OS: fleet.OS{ID: "debian", Version: "12", Codename: "bookworm", Family: "debian"}, Arch: "amd64",
		Kernel: fleet.Running{
			Release: oldRelease, Version: "#1 SMP PREEMPT_DYNAMIC Debian 6.12.111-1", Flavour: "cloud-amd64", BuildID: "4f1c0f9a7a2b5d6e",
			Cmdline: "BOOT_IMAGE=/boot/vmlinuz root=UUID=5b0c1f7e ro quiet",
		},
		Boot:      fleet.Boot{Loader: "grub", Firmware: "bios", OneShot: fleet.OneShotProven, Default: oldRelease, Installed: []string{oldRelease, newRelease}},
		MachineID: fmt.Sprintf("%032x", i), AgentVersion: "0.1.0", Labels: fleet.Labels{"workload": "web", "rack": fmt.Sprint("r", i%100), "datacenter": "fra1"},
	}
	for n := range 4 {
		f.Disks = append(f.Disks, fleet.Disk{Name: fmt.Sprintf("nvme%dn1", n), Model: "SAMSUNG MZQL23T8HCLS-00A07", Driver: "nvme", Firmware: "GDC5602Q", SizeBytes: 3840755982336})
		f.NICs = append(f.NICs, fleet.NIC{Name: fmt.Sprint("eth", n), MAC: fmt.Sprintf("52:54:00:00:%02x:%02x", n, i%256), Driver: "mlx5_core", Firmware: "16.35.3006"})
	}
	return fleet.Host{
		ID: fleet.HostID(fmt.Sprintf("host-%05d", i)), Status: fleet.StatusActive, EnrolledAt: now, Facts: f, FactsHash: f.Hash(), Type: fleet.TypeOf(f),
		Now: fleet.HostState{BootID: "b7a4b1d2-0a8e-4d53-9f62-0d7f4b1f5f1e", Release: oldRelease, InService: true},
	}
}

func BenchmarkTick(b *testing.B) {
	c, now, _, _, _ := benchFleet(b)
	for b.Loop() {
		if _, err := c.Tick(b.Context(), now); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkTickIdle is one with nothing to do: no rollout, no grant.
func BenchmarkTickIdle(b *testing.B) {
	c, now, _, _, g := benchFleet(b)
	if _, err := c.ChangeRollout(b.Context(), "ada", operator.Change{Rollout: "r-1", Action: "abort"}, now); err != nil {
		b.Fatal(err)
	}
	if err := c.store.Update(b.Context(), func(tx store.Tx) error {
		row, err := tx.Rollout("r-1")
		row.Open, g.EndedAt = false, now
		return errors.Join(err, tx.PutRollout(row), tx.PutGrant(g))
	}); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if next, err := c.Tick(b.Context(), now); err != nil || !next.IsZero() {
			b.Fatal(next, err)
		}
	}
}

// BenchmarkCheckIn is one that changes nothing, of a host in an operation: the most expensive of the frequent ones.
func BenchmarkCheckIn(b *testing.B) {
	c, now, waiting, _, _ := benchFleet(b)
	for b.Loop() {
		d, err := c.CheckIn(b.Context(), waiting, now)
		if err != nil || d.Operation == nil {
			b.Fatal(d, err)
		}
	}
}

// BenchmarkCheckInIdle is one that changes nothing, of a host of which nothing is wanted: nearly all are.
func BenchmarkCheckInIdle(b *testing.B) {
	c, now, _, _, _ := benchFleet(b)
	var h fleet.Host
	for id, one := range c.store.Last().Hosts.All() {
		if c.store.Last().Newest.Get(id) == nil {
			h = *one
			break
		}
	}
	rep := fleet.Report{Host: h.ID, Now: h.Now, FactsHash: h.FactsHash}
	for b.Loop() {
		if d, err := c.CheckIn(b.Context(), rep, now); err != nil || d.Operation != nil {
			b.Fatal(d, err)
		}
	}
}

// BenchmarkCheckInChange is one that says that its operation went on: a write transaction.
func BenchmarkCheckInChange(b *testing.B) {
	c, now, waiting, _, _ := benchFleet(b)
	op := *waiting.Operation
	waiting.Operation = &op
	for i := 0; b.Loop(); i++ {
		op.FromBootID = fmt.Sprint("boot-", i)
		if _, err := c.CheckIn(b.Context(), waiting, now); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkConfirmReboot answers the last-moment question with yes.
func BenchmarkConfirmReboot(b *testing.B) {
	c, now, _, granted, g := benchFleet(b)
	for b.Loop() {
		if a, err := c.ConfirmReboot(b.Context(), granted.Host, granted.Operation.ID, g.ID, now); err != nil || !a.Yes {
			b.Fatal(a, err)
		}
	}
}
