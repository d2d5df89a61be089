package linux

import (
	"strings"
	"testing"
	"time"
)

func TestCrashText(t *testing.T) {
	since := time.Now().Add(-time.Hour)
	m := newMachine(t, nil)
	if text, why := m.CrashText(t.Context(), since); text != "" || !strings.Contains(why, "no pstore backend") {
		t.Errorf("%q, %q", text, why)
	}
	for status, fired := range map[string]bool{"0": false, "32": true, "0x21": true, "1": false, "what": false} {
		m.write("sys/class/watchdog/watchdog0/bootstatus", status+"\n")
		if _, why := m.CrashText(t.Context(), since); strings.Contains(why, "watchdog says that it reset the machine") != fired {
			t.Errorf("bootstatus %s: %q", status, why)
		}
	}
	m.write("sys/class/watchdog/watchdog0/bootstatus", "0\n")
	m.write("sys/module/pstore/parameters/backend", "ramoops\n")
	if text, why := m.CrashText(t.Context(), since); text != "" || !strings.Contains(why, "ramoops recorded nothing") {
		t.Errorf("%q, %q", text, why)
	}
	m.write("sys/fs/pstore/console-ramoops-0", "not a crash\n")
	m.write("sys/fs/pstore/dmesg-ramoops-0", "Panic#2 Part1\n<0>[ 3.0] Kernel panic - not syncing: No working init found\n<0>[ 3.1] ---[ end\n")
	m.write("sys/fs/pstore/dmesg-ramoops-1", "Panic#2 Part2\n<6>[ 1.0] older\n<6>[ 2.0] newer\n")
	m.write("sys/fs/pstore/dmesg-ramoops-2", "Oops#1 Part1\n<4>[ 0.5] an oops before\n")
	want := "<6>[ 1.0] older\n<6>[ 2.0] newer\n<0>[ 3.0] Kernel panic - not syncing: No working init found\n<0>[ 3.1] ---[ end\n"
	if text, why := m.CrashText(t.Context(), since); text != want || why != "" {
		t.Errorf("%q, %q", text, why)
	}
	if text, why := m.CrashText(t.Context(), time.Now().Add(time.Hour)); text != "" || why == "" {
		t.Errorf("an old crash was taken for a new one: %q, %q", text, why)
	}
	// Moved away by systemd at boot, with the whole beside the parts.
	m = newMachine(t, map[string]string{"var/lib/systemd/pstore/1700/dmesg-efi_pstore-170001": "Panic#1 Part1\n<0>x\xff Kernel panic\n"})
	if text, _ := m.CrashText(t.Context(), since); text != "<0>x? Kernel panic\n" {
		t.Errorf("%q", text)
	}
}

func TestLongCrashesAreCutAroundThePanic(t *testing.T) {
	line := strings.Repeat("x", 99) + "\n"
	before, after := strings.Repeat("b"+line, 1000), strings.Repeat("a"+line, 1000)
	for name, text := range map[string]string{
		"in the middle": before + "Kernel panic - not syncing\n" + after,
		"at the end":    before + "Kernel panic - not syncing\n",
		"at the start":  "Kernel panic - not syncing\n" + after,
	} {
		got := cutCrash(text)
		if len(got) > maxCrash || len(got) < maxCrash-200 || !strings.Contains(got, "Kernel panic") {
			t.Errorf("%s: %d bytes, %v", name, len(got), strings.Contains(got, "Kernel panic"))
		}
	}
	if got := cutCrash(before); len(got) > maxCrash || !strings.HasSuffix(got, line) {
		t.Errorf("without a panic: %d bytes", len(got))
	}
}

func FuzzRecord(f *testing.F) {
	f.Add("dmesg-ramoops-0", "Panic#1 Part1\nx\n")
	f.Add("dmesg-efi_pstore-99999999999999999999", "Oops#999999999999999999999999 Part2\n")
	f.Fuzz(func(t *testing.T, name, text string) {
		if got := cutCrash(joinRecords([]record{newRecord(name, text, time.Time{})})); len(got) > maxCrash+3*len("?") {
			t.Fatalf("%d bytes", len(got))
		}
	})
}
