package cli

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"charm.land/lipgloss/v2"
	"pgregory.net/rapid"
)

var utf8Glyphs = glyphs{full: "█", empty: "░", dot: "·", arrow: "→", cut: "…"}

func TestDurationsReadLikeAPersonSaysThem(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Minute: "0 s", 0: "0 s", 300 * time.Millisecond: "under 1 s", 59 * time.Second: "59 s", 60 * time.Second: "1 min",
		59*time.Minute + 59*time.Second: "59 min", 2*time.Hour + 5*time.Minute: "2 h 5 min", 2 * time.Hour: "2 h",
		13*time.Hour + 5*time.Minute: "13 h", 49 * time.Hour: "2 d",
	} {
		if got := shortDuration(d); got != want {
			t.Errorf("shortDuration(%v) = %q, want %q", d, got, want)
		}
	}
}

func TestAgo(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		t    time.Time
		want string
	}{
		{time.Time{}, "never"},
		{now.Add(-4 * time.Second), "4 s ago"},
		{now, "now"},
		{now.Add(20 * time.Second), "now"}, // another machine's clock
		{now.Add(2 * time.Hour), "in 2 h"},
	} {
		if got := ago(c.t, now); got != c.want {
			t.Errorf("ago(%v) = %q, want %q", c.t, got, c.want)
		}
	}
}

func TestSizes(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 999: "999 B", 1000: "1.0 kB", 68_904_312: "68.9 MB", 5e9: "5.0 GB", 3_840_755_982_336: "3.8 TB"} {
		if got := sizeText(n); got != want {
			t.Errorf("sizeText(%d) = %q, want %q", n, got, want)
		}
	}
	if got := memoryText(128 << 30); got != "128 GiB" {
		t.Errorf("memoryText(128 GiB) = %q", got)
	}
}

// What a host or a package says cannot move the cursor, change colours or turn the text around.
func FuzzCleanLeavesNothingThatATerminalObeys(f *testing.F) {
	for _, s := range []string{"plain", "\x1b[2J\x1b[H", "a\nb\tc\r", "\u202etxt.exe", "\x9b31m", "ünï", "\xff\xfe", "\x00\x07\x08\x7f"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, line := range append(cleanLines(s), clean(s)) {
			for _, r := range line {
				if isUnsafe(r) {
					t.Fatalf("clean(%q) leaves %U", s, r)
				}
			}
			if !utf8.ValidString(line) {
				t.Fatalf("clean(%q) is not UTF-8", s)
			}
		}
		if c := clean(s); clean(c) != c {
			t.Fatalf("clean(%q) changes what it made", s)
		}
	})
}

func TestWrapKeepsEveryWordAndTheWidth(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		words := rapid.SliceOfN(rapid.StringMatching(`[a-zé]{1,12}`), 1, 40).Draw(t, "words")
		width := rapid.IntRange(leastWrap, 100).Draw(t, "width")
		lines := wrap(strings.Join(words, " "), width)
		if got := strings.Join(lines, " "); got != strings.Join(words, " ") {
			t.Fatalf("words were lost: %q", got)
		}
		for _, l := range lines {
			if lipgloss.Width(l) > width {
				t.Fatalf("%q is wider than %d", l, width)
			}
		}
	})
}

func TestCutMiddleKeepsBothEnds(t *testing.T) {
	for _, c := range []struct {
		s     string
		width int
		want  string
	}{
		{"6.12.117+deb12-cloud-amd64", 30, "6.12.117+deb12-cloud-amd64"},
		{"6.12.117+deb12-cloud-amd64", 13, "6.12.1…-amd64"},
		{"abcdef", 3, "a…f"},
		{"abcdef", 1, "a"},
		{"\x1b[31mabcdef\x1b[0m", 4, "ab…f"},
	} {
		if got := cutMiddle(c.s, c.width, utf8Glyphs); got != c.want {
			t.Errorf("cutMiddle(%q, %d) = %q, want %q", c.s, c.width, got, c.want)
		}
	}
}

func TestBarIsFullOnlyWhenAllIsDone(t *testing.T) {
	for share, want := range map[float64]string{-1: "░░░░", 0: "░░░░", 0.5: "██░░", 0.999: "███░", 1: "████", 7: "████"} {
		if got := bar(share, 4, utf8Glyphs); got != want {
			t.Errorf("bar(%v) = %s, want %s", share, got, want)
		}
	}
}

func TestCountedThings(t *testing.T) {
	if got := count(1, "host") + ", " + count(0, "host") + ", " + count(int32(2), "stage"); got != "1 host, 0 hosts, 2 stages" {
		t.Errorf("got %q", got)
	}
}
