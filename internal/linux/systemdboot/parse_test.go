package systemdboot

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestLinesAreReadAsTheLoaderReadsThem(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       Lines
	}{
		{"kernel-install's", entryText(middle)[:60], Lines{{"title", "Debian GNU/Linux 12 (bookworm)"}, {"version", "6.12.11"}}},
		{"comments and empty lines", "# a\n\n  #b\nlinux /x\n", Lines{{"linux", "/x"}}},
		{"tabs and trailing blanks", "\tlinux\t\t/x \t\n", Lines{{"linux", "/x"}}},
		{"quotes", `title "a b"` + "\n" + `options "x`, Lines{{"title", "a b"}, {"options", `"x`}}},
		{"an empty value in quotes", `title ""` + "\n", Lines{{"title", ""}}},
		{"a single quote mark", `title "` + "\n", Lines{{"title", ""}}},
		{"a key without a value", "linux\ninitrd  \nversion 1", Lines{{"version", "1"}}},
		{"lines of another system", "linux /x\r\nversion 1\r", Lines{{"linux", "/x"}, {"version", "1"}}},
		{"options on several lines", "options a\noptions b c\n", Lines{{"options", "a"}, {"options", "b c"}}},
	} {
		got, err := ParseLines([]byte(c.text))
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: got %q, %v; want %q", c.name, got, err, c.want)
		}
	}
	for name, b := range map[string][]byte{"zeros, as a power cut leaves them": make([]byte, 512), "too long": []byte(strings.Repeat("a b\n", maxEntry))} {
		if ls, err := ParseLines(b); err == nil {
			t.Errorf("%s: %q", name, ls)
		}
	}
}

func FuzzParseLines(f *testing.F) {
	f.Add([]byte(entryText(middle)))
	f.Add([]byte("timeout menu-force\ndefault debian-*\n#x\n\r\n\tkey \"quoted\"\nk \"\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		ls, err := ParseLines(b)
		if err != nil {
			return
		}
		for _, l := range ls {
			if l.Key == "" || strings.ContainsAny(l.Key, " \t\r\n") || strings.ContainsAny(l.Value, "\r\n") {
				t.Fatalf("%q gave %q", b, l)
			}
		}
		back, err := ParseLines(ls.Bytes())
		if len(ls.Bytes()) <= maxEntry && (err != nil || !slices.Equal(back, ls)) {
			t.Fatalf("%q printed as %q and read back as %q, %v", ls, ls.Bytes(), back, err)
		}
	})
}

func TestBootCounters(t *testing.T) {
	for id, want := range map[string]struct {
		base string
		left int
	}{
		"a-6.12.1.conf":              {"a-6.12.1.conf", -1},
		"a-6.12.1+3.conf":            {"a-6.12.1.conf", 3},
		"a-6.12.1+deb12-cloud.conf":  {"a-6.12.1+deb12-cloud.conf", -1},
		"a-6.12.1+deb12+2-1.conf":    {"a-6.12.1+deb12.conf", 2},
		"a+0-3.conf":                 {"a.conf", 0},
		"a+3-.conf":                  {"a+3-.conf", -1},
		"a+-3.conf":                  {"a+-3.conf", -1},
		"a+99999999999999999.conf":   {"a+99999999999999999.conf", -1},
		"a+3":                        {"a+3", -1},
		"a-6.12.1+deb12-cloud+1.efi": {"a-6.12.1+deb12-cloud.efi", 1},
	} {
		_, left, _, ok := counter(id)
		if !ok {
			left = -1
		}
		if baseOf(id) != want.base || left != want.left {
			t.Errorf("%s: %s with %d left, want %+v", id, baseOf(id), left, want)
		}
	}
}

func TestPatterns(t *testing.T) {
	for _, c := range []struct {
		pattern, id string
		want        bool
	}{
		{"debian-6.1.conf", "Debian-6.1.CONF", true},
		{"debian-*", "debian-6.12.117+deb12-cloud-amd64.conf", true},
		{"*", "a", true},
		{"*", "", true},
		{"", "a", false},
		{"", "", false},
		{"*.conf", "a.efi", false},
		{"*a*b*c", "xaxbxc", true},
		{"*a*b*c", "xaxbx", false},
		{"a?c", "abc", true},
		{"a?c", "ac", false},
		{"[a-c]x", "bx", true},
		{"[a-c]x", "dx", false},
		{"[-a]x", "-x", true},
		{"[]a]x", "]x", true},
		{"[a", "a", false},
		{"[a-]x", "-x", true},
		{"a[", "a[", false},
		{`a\*b`, "a*b", true},
		{`a\*b`, "axb", false},
		{`a\`, `a\`, false},
	} {
		if got := Match(c.pattern, c.id); got != c.want {
			t.Errorf("%q on %q: %v", c.pattern, c.id, got)
		}
	}
	for id, want := range map[string]bool{"a-6.1+deb12~1.conf": true, "a*.conf": false, "a[b].conf": false, `a\b.conf`: false, "": false, "@saved": false} {
		if plainID(id) != want {
			t.Errorf("%q stands for itself: %v", id, !want)
		}
	}
}

// FuzzMatch compares with the obvious way, which takes too long for long patterns.
func FuzzMatch(f *testing.F) {
	f.Add("a*b?[c-e]*", "axxbxdz")
	f.Add(`[\]a-c]*\*`, "b*")
	var slow func(p, h []rune) bool
	slow = func(p, h []rune) bool {
		if len(p) == 0 {
			return len(h) == 0
		}
		if p[0] == '*' {
			return slow(p[1:], h) || len(h) > 0 && slow(p, h[1:])
		}
		if len(h) == 0 {
			return false
		}
		n, ok := matchOne(p, h[0])
		return ok && slow(p[n:], h[1:])
	}
	f.Fuzz(func(t *testing.T, pattern, id string) {
		if len(pattern) > 12 || len(id) > 12 || pattern == "" {
			_ = Match(pattern, id)
			return
		}
		p, h := []rune(strings.ToLower(pattern)), []rune(strings.ToLower(id))
		if got, want := match(p, h), slow(p, h); got != want {
			t.Fatalf("%q on %q: %v, the slow way says %v", pattern, id, got, want)
		}
	})
}

func TestTheMenusOrder(t *testing.T) {
	entry := func(id, sortKey, version string, tries int) *Entry {
		return &Entry{ID: id, Tries: tries, sortKey: sortKey, version: version}
	}
	want := []*Entry{
		entry("a-6.12.117.conf", "debian", "6.12.117", -1),
		entry("z-6.12.101.conf", "debian", "6.12.101", -1),
		entry("b-6.1.conf", "ubuntu", "6.1", 3),
		entry("old-2.conf", "", "1", -1),
		entry("old-1.conf", "", "9", -1),
		entry("kernwave-trial.conf", "", "9", -1),
		entry("c-9.conf", "debian", "9", 0),
	}
	for range 2 {
		got := slices.Clone(want)
		slices.Reverse(got)
		slices.SortStableFunc(got, compareEntries)
		for i := range want {
			if got[i] != want[i] {
				t.Errorf("at %d is %s, want %s", i, got[i].ID, want[i].ID)
			}
		}
	}
	// Of systemd's own test, in order.
	versions := []string{"~1", "", "ab", "abb", "abc", "0001", "002", "12", "122", "122.9", "123~rc1", "123", "123-a", "123-a.1", "123-a1", "123-a1.1", "123-3", "123-3.1", "123^patch1", "123^1", "123.a-1", "123.1-1", "123a-1", "124"}
	for i, a := range versions {
		for j, b := range versions {
			want := 0
			if i < j {
				want = -1
			} else if i > j {
				want = 1
			}
			if got := compareVersions(a, b); got != want {
				t.Errorf("%q against %q: %d, want %d", a, b, got, want)
			}
		}
	}
}

func FuzzCompareVersions(f *testing.F) {
	f.Add("6.12.117+deb12-cloud-amd64", "6.12.101~rc1")
	f.Add("é~-^.0a", "00")
	f.Fuzz(func(t *testing.T, a, b string) {
		if compareVersions(a, b) != -compareVersions(b, a) || compareVersions(a, a) != 0 {
			t.Fatalf("%q and %q: %d and %d", a, b, compareVersions(a, b), compareVersions(b, a))
		}
	})
}

// FuzzProgram: whatever is on an ESP must not stop the agent.
func FuzzProgram(f *testing.F) {
	f.Add(image(middle))
	f.Add(unified(middle))
	f.Add([]byte("MZ"))
	f.Fuzz(func(t *testing.T, b []byte) {
		path := filepath.Join(t.TempDir(), "x.efi")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		_ = ukiRelease(path)
		if wholeProgram(path) == nil && len(b) < 0x40 {
			t.Fatalf("%q is a whole program", b)
		}
	})
}
