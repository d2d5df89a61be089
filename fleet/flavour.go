package fleet

import "strings"

// FlavourOf gives the flavour in a uname -r: what stands behind the version. 6.12.117+deb12-cloud-amd64 has
// cloud-amd64, 5.15.0-97-generic has generic, 6.12.9 has none. Whoever adds a kernel and the host that says what it
// runs both use it: a kernel fits only hosts of its flavour.
func FlavourOf(release string) string {
	rest := release
	for rest != "" {
		part, after, _ := strings.Cut(rest, "-")
		if !isVersionPart(part) {
			return rest
		}
		rest = after
	}
	return ""
}

// isVersionPart finds the parts that belong to the version: 6.12.117+deb12, 0.deb12.4, 97, rc7.
func isVersionPart(s string) bool {
	if s == "" || s[0] >= '0' && s[0] <= '9' {
		return true
	}
	rc, isRC := strings.CutPrefix(s, "rc")
	return isRC && rc != "" && rc[0] >= '0' && rc[0] <= '9'
}
