package conf_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kernwave/kernwave/internal/agent/conf"
)

func TestReadsWhatIsThere(t *testing.T) {
	m := conf.Parse("a.yaml", []byte(`# a comment
server: https://kernwave.example:7443
version: 1.10
yes_no: yes
labels:
  workload: web
  rack: 08
drain:
  argv: [systemctl, stop, "my app"]
  timeout: 90s
text: |
  two
  lines
nothing:
`))
	if got := m.String("server"); got != "https://kernwave.example:7443" {
		t.Errorf("server: got %q", got)
	}
	if got := m.String("version"); got != "1.10" {
		t.Errorf("version: got %q, want it as written", got)
	}
	if got := m.String("yes_no"); got != "yes" {
		t.Errorf("yes_no: got %q", got)
	}
	if diff := cmp.Diff(map[string]string{"workload": "web", "rack": "08"}, m.Table("labels")); diff != "" {
		t.Errorf("labels (-want +got):\n%s", diff)
	}
	d := m.Map("drain")
	if diff := cmp.Diff([]string{"systemctl", "stop", "my app"}, d.Strings("argv")); diff != "" {
		t.Errorf("argv (-want +got):\n%s", diff)
	}
	if got := d.Duration("timeout"); got != 90*time.Second {
		t.Errorf("timeout: got %v", got)
	}
	if got := m.String("text"); got != "two\nlines\n" {
		t.Errorf("text: got %q", got)
	}
	if m.Has("nothing") || m.String("missing") != "" {
		t.Error("null or missing keys are there")
	}
	if err := m.Err(); err != nil {
		t.Error(err)
	}
}

func TestEveryMistakeAtOnceWithItsLine(t *testing.T) {
	m := conf.Parse("a.yaml", []byte(`server: [a]
sevrer: b
drain:
  argv: systemctl stop
  timeout: soon
  retires: 3
labels:
  - a
`))
	m.String("server")
	d := m.Map("drain")
	d.Strings("argv")
	d.Duration("timeout")
	m.Table("labels")
	want := `a.yaml:1: server: must be text, not a list
a.yaml:2: unknown key "sevrer"; known here: server, drain, labels
a.yaml:4: argv: must be a list, like [one, two]; not a single value
a.yaml:5: timeout: "soon" is no duration; write it like 30s or 5m
a.yaml:6: unknown key "retires"; known here: argv, timeout
a.yaml:8: labels must be keys with values, not a list`
	err := m.Err()
	if err == nil {
		t.Fatal("no mistake was told")
	}
	if diff := cmp.Diff(want, err.Error()); diff != "" {
		t.Errorf("mistakes (-want +got):\n%s", diff)
	}
}

func TestOddDocuments(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"an empty file is fine", "", ""},
		{"only comments are fine", "# nothing\n", ""},
		{"a list is told", "- a\n", "a.yaml:1: the file must be keys with values, not a list"},
		{"two documents are told", "a: 1\n---\nb: 2\n", "a.yaml:3: a second document"},
		{"a key twice is told", "a: 1\na: 2\n", "a.yaml:2: "},
		{"bad syntax is told with its line", "a: 1\nb: [1\n", "a.yaml:2: "},
		{"an alias is told", "a: &x 1\n", "an alias, anchor or tag"},
		{"deep nesting is told", strings.Repeat("[", 10000), "nested too deep"},
		{"a huge file is told", strings.Repeat("a: 1\n", 100000), "at most 32768 are read"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := conf.Parse("a.yaml", []byte(c.in))
			m.String("a")
			err := m.Err()
			if c.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"", "a: 1", "a:\n  b: [c]", "a: &x 1\nb: *x", "? [a]\n: b", "a: |\n  x", "{a: {b: c}}", "a: !!binary x", "<<: {a: 1}"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m := conf.Parse("f", data)
		m.String("a")
		m.Strings("b")
		m.Map("c").Duration("d")
		m.Table("e")
		err := m.Err()
		if again := m.Err(); (err == nil) != (again == nil) || err != nil && again.Error() != err.Error() {
			t.Errorf("the mistakes changed from %v to %v", err, again)
		}
	})
}
