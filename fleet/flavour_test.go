package fleet

import "testing"

func TestFlavourOf(t *testing.T) {
	for release, want := range map[string]string{
		"6.12.117+deb12-cloud-amd64":   "cloud-amd64",
		"6.1.0-44-amd64":               "amd64",
		"6.1.0-44-rt-amd64":            "rt-amd64",
		"6.5.0-0.deb12.4-cloud-arm64":  "cloud-arm64",
		"6.16-rc7+unreleased-amd64":    "amd64",
		"6.16~rc7-amd64":               "amd64",
		"5.15.0-97-generic":            "generic",
		"5.14.0-503.el9.x86_64":        "",
		"6.12.9":                       "",
		"6.12.9-kwpanic.1-cloud-amd64": "kwpanic.1-cloud-amd64",
		"6.12.9+kwpanic-cloud-amd64":   "cloud-amd64",
		"":                             "",
		"-":                            "",
	} {
		if got := FlavourOf(release); got != want {
			t.Errorf("FlavourOf(%q) = %q, want %q", release, got, want)
		}
	}
}
