package near

import (
	"strings"
	"testing"
)

func TestNames(t *testing.T) {
	names := []string{"web-1", "web-2", "web-10", "db-1", "cache-fra-1"}
	for typed, want := range map[string]string{
		"wbe-1": "web-1", "web1": "web-1", "WEB-2": "web-2", "web-3": "web-1 web-2", "cache": "cache-fra-1", "mail-7": "", "": "", "web-100": "web-10",
	} {
		if got := strings.Join(Names(typed, names), " "); got != want {
			t.Errorf("Names(%q) = %q, want %q", typed, got, want)
		}
	}
}
