package cli

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/kernwave/kernwave/internal/operator"
)

func TestParseWaves(t *testing.T) {
	for _, c := range []struct {
		in   string
		want []int
		err  string
	}{
		{"", nil, ""},
		{"1,5,25,100", []int{1, 5, 25, 100}, ""},
		{" 10 %, 100% ", []int{10, 100}, ""},
		{"1,,100", nil, `"" is no share`},
		{"0,100", nil, `"0" is no share`},
		{"101", nil, `"101" is no share`},
		{"half", nil, `"half" is no share`},
		{"1.5,100", nil, `"1.5" is no share`},
	} {
		got, err := parseWaves(c.in)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("parseWaves(%q): error %v, want %s", c.in, err, c.err)
			}
			continue
		}
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("parseWaves(%q) = %v, %v, want %v", c.in, got, err, c.want)
		}
	}
}

func TestParseBudget(t *testing.T) {
	for _, c := range []struct {
		by, limit string
		want      operator.Budget
		err       string
	}{
		{"type", "2", operator.Budget{By: "type", Limit: 2}, ""},
		{"label:rack", "0", operator.Budget{By: "label:rack"}, ""},
		{"label:", "1", operator.Budget{}, "no group"},
		{"rack", "1", operator.Budget{}, "no group"},
		{"type", "0", operator.Budget{}, "always exists"},
		{"type", "-1", operator.Budget{}, "no number"},
		{"type", "99999999999999999999", operator.Budget{}, "no number"},
		{"label:rack", "4294967296", operator.Budget{}, "too large"},
	} {
		got, err := parseBudget(c.by, c.limit)
		if c.err == "" && (err != nil || got != c.want) || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
			t.Errorf("parseBudget(%q, %q) = %v, %v, want %v, %s", c.by, c.limit, got, err, c.want, c.err)
		}
		if u, ok := errors.AsType[*usageError](err); err != nil && (!ok || u.next == "") {
			t.Errorf("parseBudget(%q, %q): %v does not say what to do", c.by, c.limit, err)
		}
	}
}

func TestServerURL(t *testing.T) {
	for in, want := range map[string]string{
		"https://kw.example:8443": "https://kw.example:8443", "kw.example:8443": "https://kw.example:8443",
		"https://[::1]:8443/": "https://[::1]:8443", "kw.example": "https://kw.example",
		"http://kw.example": "", "https://": "", "https://kw/path": "", "https://user@kw": "", "https://kw?x=1": "", "https://a b": "", "ftp://kw": "",
		"https://:8443": "",
	} {
		got, err := serverURL(setting{in, "--server"})
		if got != want || (err == nil) != (want != "") {
			t.Errorf("serverURL(%q) = %q, %v, want %q", in, got, err, want)
		}
	}
}

// A settings file is read whole or refused with a reason, and what was read is written back the same.
func FuzzSettings(f *testing.F) {
	for _, s := range []string{
		"", "server: https://kw:8443\nca: ca.pem\ntoken_file: t\n", "token: x\n", "token: x\ntoken_file: y\n", "tokn: x\n", "- a\n",
		"server: [1,2]\n", "server: &a x\nca: *a\n", "ca: |\n  -----BEGIN CERTIFICATE-----\n", "\t", "server: 'x", "? x\n: y",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := parseSettings(b)
		if err != nil {
			if err.Error() == "" || strings.Contains(err.Error(), "\n") {
				t.Fatalf("%q: the error is no line: %q", b, err)
			}
			return
		}
		out, err := yaml.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		again, err := parseSettings(out)
		if err != nil || again != s {
			t.Fatalf("%q: read %+v, wrote %q, read %+v, %v", b, s, out, again, err)
		}
	})
}
