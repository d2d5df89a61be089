package labtest

import (
	"strings"
	"testing"

	"github.com/kernwave/kernwave/internal/lab"
)

// What the scenarios with power cuts stand on: what a host has only written is lost, what it has flushed is not.
func TestPowerCutLosesWhatWasNotFlushed(t *testing.T) {
	im := Images(t)
	f := Start(t, im, lab.FleetConfig{},
		lab.HostSpec{Name: "strict", FlushCounts: true},
		lab.HostSpec{Name: "lenient"})
	ctx := t.Context()
	// Direct writes into blocks that exist reach the disk at once, without a flush and without a change of the file
	// system. The last line is the one without a sync.
	const write = `cd /root && for f in synced fsynced direct; do dd if=/dev/zero of=$f bs=4096 count=16 status=none; done; sync
		yes new | head -c 65536 >new
		cp new synced && sync -f synced
		dd if=new of=fsynced bs=4096 conv=notrunc,fsync oflag=direct status=none
		echo buffered >buffered
		dd if=new of=direct bs=4096 conv=notrunc oflag=direct status=none`
	const look = `cd /root && for f in synced fsynced direct; do head -c 3 $f | tr '\0' 0; echo; done; cat buffered 2>/dev/null || echo none`
	for host, want := range map[string]string{
		"strict":  "new\nnew\n000\nnone",
		"lenient": "new\nnew\nnew\nnone", // why another disk is needed
	} {
		Must(t, f, host, write)
		if err := f.PowerOff(host); err != nil {
			t.Fatal(err)
		}
		if err := f.PowerOn(ctx, host); err != nil {
			t.Fatal(err)
		}
		if got := Must(t, f, host, look); got != want {
			t.Errorf("%s: after a power cut the files hold %q, want %q", host, got, want)
		}
		if out := Must(t, f, host, "dmesg | grep -i 'EXT4-fs error' || true"); strings.TrimSpace(out) != "" {
			t.Errorf("%s: the file system was damaged: %s", host, out)
		}
	}
}
