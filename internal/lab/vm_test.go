package lab_test

import (
	"os"
	"testing"

	"github.com/kernwave/kernwave/internal/lab"
)

func TestVMOneHost(t *testing.T) {
	if os.Getenv("KERNWAVE_LAB") != "1" {
		t.Skip("starts virtual machines: set KERNWAVE_LAB=1")
	}
	ctx := t.Context()
	im, err := lab.Prepare(ctx, lab.Config{Progress: lab.WriteProgress(os.Stderr)})
	if err != nil {
		t.Fatal(err)
	}
	f, err := lab.Start(ctx, im, lab.FleetConfig{Dir: t.TempDir()}, lab.HostSpec{Name: "web-1", Model: "R650"})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Down()
	t.Log(f.CPU("web-1"))
	out, err := f.Output(ctx, "web-1", "uname -r; hostname; cat /sys/class/dmi/id/product_name; systemctl is-system-running; systemd-analyze")
	t.Log(out, err)
	t.Log(f.Boots("web-1"), f.Tries("web-1"))
	out, err = f.Output(ctx, "web-1", "systemctl list-units --failed; systemd-analyze blame | head -30; cat /proc/cmdline; journalctl -b -p warning | tail -30; df -h /; free -m;lsmod")
	t.Log(out, err)
}
