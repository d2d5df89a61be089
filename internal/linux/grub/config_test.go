package grub

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

const (
	newest = "6.12.117+deb12-cloud-amd64"
	middle = "6.12.111+deb12-cloud-amd64"
	oldest = "6.1.0-56-cloud-amd64"
	uuid   = "2ab0d3f4-8d0a-4c7e-9a55-0d1f6c1f7b11"
)

func fixture(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// The fixtures were written by grub-mkconfig 2.06 for three kernels.
func TestConfigsOfGrubMkconfig(t *testing.T) {
	sub := "gnulinux-advanced-" + uuid + ">"
	for _, c := range []struct {
		file                 string
		saved, savesDefault  bool
		pathOfMiddle, deflt  string
		entries, topOfTheTop int
	}{
		{"debian-submenu.cfg", false, false, sub + "gnulinux-" + middle + "-advanced-" + uuid, "0", 2, 6},
		{"debian-submenu-saved.cfg", true, false, sub + "gnulinux-" + middle + "-advanced-" + uuid, "${saved_entry}", 2, 6},
		{"debian-savedefault.cfg", true, true, sub + "gnulinux-" + middle + "-advanced-" + uuid, "${saved_entry}", 2, 6},
		{"ubuntu.cfg", false, false, sub + "gnulinux-" + middle + "-advanced-" + uuid, "0", 2, 6},
	} {
		t.Run(c.file, func(t *testing.T) {
			cfg, err := parseConfig(fixture(t, c.file))
			if err != nil {
				t.Fatal(err)
			}
			if !cfg.LoadsEnv || !cfg.HonoursNext || cfg.HonoursSaved != c.saved || cfg.Default != c.deflt || cfg.NeverTimesOut || len(cfg.Surprises) > 0 || cfg.SourcesTrial {
				t.Errorf("header: %+v", cfg)
			}
			if len(cfg.Menu) != c.entries || len(cfg.Menu[1].Children) != c.topOfTheTop {
				t.Fatalf("%d entries", len(cfg.Menu))
			}
			if got := releases(cfg.Menu); !slices.Equal(got, []string{oldest, middle, newest}) {
				t.Errorf("releases %q", got)
			}
			e := stock(cfg.Menu, middle)
			if e == nil || e.Path != c.pathOfMiddle || e.SavesDefault != c.savesDefault || e.Recovery {
				t.Fatalf("entry of %s: %+v", middle, e)
			}
			if e.Kernel != "/boot/vmlinuz-"+middle || !slices.Equal(e.Initrds, []string{"/boot/initrd.img-" + middle}) {
				t.Errorf("kernel %q, initrd %q", e.Kernel, e.Initrds)
			}
		})
	}
	flat, err := parseConfig(fixture(t, "debian-flat-saved.cfg"))
	if err != nil {
		t.Fatal(err)
	}
	if e := stock(flat.Menu, oldest); e == nil || e.Path != "gnulinux-"+oldest+"-advanced-"+uuid {
		t.Errorf("entry without a submenu: %+v", e)
	}
}

func TestEveryEntryIsSelectedByItsPath(t *testing.T) {
	for _, f := range []string{"debian-submenu.cfg", "debian-flat-saved.cfg", "ubuntu.cfg"} {
		cfg, err := parseConfig(fixture(t, f))
		if err != nil {
			t.Fatal(err)
		}
		var walk func([]*Entry)
		walk = func(es []*Entry) {
			for _, e := range es {
				if walk(e.Children); !e.Submenu && resolve(cfg.Menu, e.Path) != e {
					t.Errorf("%s: %q selects %q", f, e.Path, resolve(cfg.Menu, e.Path).Path)
				}
			}
		}
		walk(cfg.Menu)
	}
}

func TestResolveDoesWhatGRUBDoes(t *testing.T) {
	cfg, err := parseConfig(fixture(t, "debian-submenu.cfg"))
	if err != nil {
		t.Fatal(err)
	}
	id := func(r string) string { return "gnulinux-" + r + "-advanced-" + uuid }
	for _, c := range []struct{ why, spec, want string }{
		{"an empty saved_entry boots the newest", "", newest},
		{"an unknown one too", "gone", newest},
		{"a number out of range too", "7", newest},
		{"an id of a submenu's entry without the submenu too", id(oldest), newest},
		{"a path of ids", "gnulinux-advanced-" + uuid + ">" + id(oldest), oldest},
		{"a path of titles", "Advanced options for Debian GNU/Linux>Debian GNU/Linux, with Linux " + middle, middle},
		{"a path of numbers", "1>2", middle},
		{"a mixed path", "1>" + id(oldest), oldest},
		{"a submenu alone boots its first", "1", newest},
		{"a submenu with an unknown entry boots its first", "1>gone", newest},
		{"digits that begin a word are a number", "1st", newest},
	} {
		if got := resolve(cfg.Menu, c.spec); got.Release != c.want {
			t.Errorf("%s: %q boots %s, want %s", c.why, c.spec, got.Release, c.want)
		}
	}
	if resolve(nil, "0") != nil {
		t.Error("an empty menu boots something")
	}
}

func TestHeadersThatMustNotBeTrusted(t *testing.T) {
	base := fixture(t, "debian-submenu-saved.cfg")
	for _, c := range []struct {
		name, old, new string
		bad            func(config) bool
	}{
		{"next_entry is not saved", "   save_env next_entry\n", "", func(c config) bool { return !c.HonoursNext }},
		{"next_entry is not cleared", "   set next_entry=\n", "", func(c config) bool { return !c.HonoursNext }},
		{"the block is not read", "  load_env\n", "", func(c config) bool { return !c.LoadsEnv }},
		{"a later default", "### BEGIN /etc/grub.d/41_custom ###\n", "set default=2\n", func(c config) bool { return len(c.Surprises) == 1 }},
		{"a button", "if [ \"${next_entry}\" ] ; then", "if cmostest 4 ; then\n set default=\"x\"\nelif [ \"${next_entry}\" ] ; then", func(c config) bool { return len(c.Surprises) > 0 && !c.HonoursNext }},
		{"waits for ever", "set timeout=5", "set timeout=-1", func(c config) bool { return c.NeverTimesOut }},
		{"blscfg", "### BEGIN /etc/grub.d/41_custom ###\n", "blscfg\n", func(c config) bool { return len(c.Surprises) == 1 }},
	} {
		if !strings.Contains(base, c.old) {
			t.Fatalf("%s: the fixture has no %q", c.name, c.old)
		}
		cfg, err := parseConfig(strings.Replace(base, c.old, c.new, 1))
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if !c.bad(cfg) {
			t.Errorf("%s: not noticed: %+v", c.name, cfg)
		}
	}
	for _, broken := range []string{"", "menuentry 'a' {\n", "menuentry 'a {\n}\n", "}\n", "fi\nmenuentry 'a' {\n}\n", "if true; then\nmenuentry a {\n}\n", base[:len(base)/2], strings.Repeat("submenu x {\n", 30)} {
		if cfg, err := parseConfig(broken); err == nil {
			t.Errorf("%.40q was accepted: %+v", broken, cfg)
		}
	}
}

func TestTitlesWithQuotesAndArrows(t *testing.T) {
	cfg, err := parseConfig(`
submenu 'It'\''s > old' {
	menuentry "a \"b\"" --class x --id=k1 { linux /vmlinuz-1.2-x ro
	}
	menuentry plain\ title { linux16 ($root)/vmlinuz-1.3-x; initrd16 /a /b }
}`)
	if err != nil {
		t.Fatal(err)
	}
	m := cfg.Menu[0]
	if m.Title != "It's > old" || m.Path != "It's >> old" || m.Children[0].Title != `a "b"` || m.Children[0].ID != "k1" || m.Children[1].Title != "plain title" {
		t.Errorf("got %+v %+v %+v", m, m.Children[0], m.Children[1])
	}
	if resolve(cfg.Menu, "It's >> old>plain title") != m.Children[1] {
		t.Error("the path does not select it")
	}
	if m.Children[1].Release != "" || len(m.Children[1].Initrds) != 2 {
		t.Errorf("a kernel on a device of GRUB's: %+v", m.Children[1])
	}
}

func TestOnlyAnEntryThatNamesTheReleaseCounts(t *testing.T) {
	for _, c := range []struct {
		name, release string
		want          bool
	}{
		{"gnulinux-6.1.0-5-amd64-advanced-x", "6.1.0-5-amd64", true},
		{"Debian, with Linux 6.1.0-5-amd64", "6.1.0-5-amd64", true},
		{"gnulinux-16.1.0-5-amd64-advanced-x", "6.1.0-5-amd64", false},
		{"gnulinux-6.1.0-5-amd64v3-advanced-x", "6.1.0-5-amd64", false},
		{"gnulinux-simple-x", "6.1.0-5-amd64", false},
		{"6.1 and 6.1", "6.1", true},
	} {
		if got := namesRelease(c.name, c.release); got != c.want {
			t.Errorf("%q names %q: %v", c.name, c.release, got)
		}
	}
}

// Any name is selected by its own path, also one with '>' in it, unless it begins with a digit: GRUB takes that for a number.
func TestSelectsProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.StringMatching(`[a-z>][a-z0-9> ]{0,10}`).Draw(t, "name")
		other := rapid.StringMatching(`[a-z>][a-z0-9> ]{0,10}`).Draw(t, "other")
		spec := strings.ReplaceAll(name, ">", ">>")
		if !selects(name, spec) {
			t.Fatalf("%q does not select %q", spec, name)
		}
		if name != other && selects(other, spec) {
			t.Fatalf("%q selects %q", spec, other)
		}
		if tail := afterLevel(spec + ">rest"); !strings.HasSuffix(name, ">") && tail != "rest" {
			t.Fatalf("after %q comes %q", spec, tail)
		}
	})
}

func FuzzParseConfig(f *testing.F) {
	for _, name := range []string{"debian-submenu.cfg", "debian-flat-saved.cfg", "ubuntu.cfg"} {
		f.Add(fixture(f, name))
	}
	f.Add("menuentry 'a' --id b { linux /vmlinuz-1\n}\n")
	f.Add("submenu a { submenu b { menuentry c { } } }")
	f.Fuzz(func(t *testing.T, src string) {
		if len(src) > 64<<10 {
			return
		}
		cfg, err := parseConfig(src)
		if err != nil {
			return
		}
		for _, r := range releases(cfg.Menu) {
			if e := stock(cfg.Menu, r); e.Release != r || e.Submenu {
				t.Fatalf("stock entry of %q is %+v", r, e)
			}
		}
		resolve(cfg.Menu, "0")
	})
}
