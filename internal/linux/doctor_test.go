package linux

import (
	"testing"

	"github.com/kernwave/kernwave/deploy"
	"github.com/kernwave/kernwave/fleet"
)

func TestDoctorSaysWhatIsMissingAndHowToMendIt(t *testing.T) {
	m := newMachine(t, nil)
	m.write("boot/x", "")
	found := map[string]Finding{}
	for _, f := range m.Doctor(t.Context()) {
		found[f.Name] = f
		if f.Saw == "" || f.Level == "" {
			t.Errorf("says nothing: %+v", f)
		}
		if f.Level != OK && f.Next == "" {
			t.Errorf("does not say how to mend it: %+v", f)
		}
	}
	for name, want := range map[string]Level{
		"system": Fail, "one-shot": Fail, "default-entry": Fail, "dead-man": Fail, "packages": OK,
		"watchdog": Warn, "pstore": Warn, "panic": OK, "kexec": OK, "hooks": Warn,
	} {
		if found[name].Level != want {
			t.Errorf("%s: %+v, want %s", name, found[name], want)
		}
	}

	// The same machine, mended.
	m = newMachine(t, map[string]string{
		"sys/class/watchdog/watchdog0/identity": "i6300ESB timer\n", "sys/class/watchdog/watchdog0/state": "active\n",
		"sys/module/pstore/parameters/backend": "ramoops\n", "etc/kernwave/hooks.d/drain": "", "proc/sys/kernel/panic": "5\n",
		"boot/x": "",
	})
	m.boot = sound{&fakeLoader{}}
	if _, err := deploy.Install(deploy.Options{Root: m.root}); err != nil {
		t.Fatal(err)
	}
	for _, f := range m.Doctor(t.Context()) {
		// What depends on the machine that runs the tests, not on the one made of files.
		if f.Name == "root" || f.Name == "boot-space" {
			continue
		}
		if f.Level != OK {
			t.Errorf("still found: %+v", f)
		}
	}
	m.write("sys/kernel/kexec_loaded", "1\n")
	for _, f := range m.Doctor(t.Context()) {
		if f.Name == "kexec" && f.Level != Warn {
			t.Errorf("%+v", f)
		}
	}
}

// sound is a boot loader that has nothing wrong with it.
type sound struct{ *fakeLoader }

func (sound) Facts() fleet.Boot {
	return fleet.Boot{Loader: "fake", OneShot: fleet.OneShotProven, OneShotWhy: "shown", Default: running}
}
