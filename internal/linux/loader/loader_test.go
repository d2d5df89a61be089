package loader

import "testing"

func TestATrialsWordsAreTakenOff(t *testing.T) {
	const safety = "panic=30 oops=panic systemd.watchdog_sec=120"
	for line, want := range map[string]string{
		"root=x quiet": "root=x quiet",
		"root=x  quiet " + safety + " kernwave.trial=op-1 kernwave.deadman=60":                                         "root=x quiet",
		"root=x " + safety + " kernwave.trial=a kernwave.deadman=1 " + safety + " kernwave.trial=b kernwave.deadman=2": "root=x",
		"panic=30 root=x kernwave.trial=a":                            "panic=30 root=x", // the operator's own
		safety + " root=x kernwave.deadman=1 -- single":               safety + " root=x -- single",
		safety + " kernwave.trial=op-1 kernwave.deadman=60 -- single": "-- single",
		"kernwave.trial=a": "",
		"":                 "",
	} {
		got, had := StripTrial(line)
		if got != want || had != (got != line) {
			t.Errorf("%q: %q, %v; want %q", line, got, had, want)
		}
	}
}

func TestArguments(t *testing.T) {
	if err := CheckArgs(append([]string{"kernwave.trial=op-7.web-1", "kernwave.deadman=60"}, SafetyArgs...)); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"", "a b", "a'b", `a"b`, "$a", "a\nb", "a;b"} {
		if CheckArgs([]string{bad}) == nil {
			t.Errorf("%q can stand on a command line", bad)
		}
	}
}
