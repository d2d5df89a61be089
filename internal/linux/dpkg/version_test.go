package dpkg

import (
	"os/exec"
	"testing"

	"pgregory.net/rapid"
)

func TestVersionsInOrder(t *testing.T) {
	ordered := []string{
		"1.0~rc1-1", "1.0-1", "1.0-1+b1", "1.0a-1", "1.0+x-1", "1.0.1-1", "1.2-1", "1.10-1", "6.1.0-9", "6.1.0-10",
		"6.12.111-1~deb12u1", "6.12.111-1", "6.12.117-1~bpo12+1", "6.12.117-1", "1:0.1-1",
	}
	for i, a := range ordered {
		for j, b := range ordered {
			if got := compareVersions(a, b); (got < 0) != (i < j) || (got == 0) != (i == j) {
				t.Errorf("%s against %s: %d", a, b, got)
			}
		}
	}
}

// dpkg's own opinion is the right one.
func TestVersionsAsDpkgOrdersThem(t *testing.T) {
	if _, err := exec.LookPath("dpkg"); err != nil {
		t.Skip("dpkg is not installed: only known versions are compared")
	}
	version := rapid.StringMatching(`(0|1:|2:)?[0-9][0-9a.+~]{0,5}(-[0-9a+~.]{1,4})?`)
	rapid.Check(t, func(t *rapid.T) {
		a, b := version.Draw(t, "a"), version.Draw(t, "b")
		want := 0
		if exec.Command("dpkg", "--compare-versions", a, "lt", b).Run() == nil {
			want = -1
		} else if exec.Command("dpkg", "--compare-versions", a, "gt", b).Run() == nil {
			want = 1
		}
		if got := compareVersions(a, b); (got < 0) != (want < 0) || (got > 0) != (want > 0) {
			t.Fatalf("%s against %s: %d, dpkg says %d", a, b, got, want)
		}
	})
}
