package dpkg

import (
	"slices"
	"testing"
)

func TestDependencies(t *testing.T) {
	s, err := parseStatus("kmod\t30+20221128-1\tamd64\tinstalled\tok\t\n" +
		"linux-base\t4.9\tall\tinstalled\tok\t\n" +
		"initramfs-tools\t0.142\tall\ttriggers-pending\tok\tlinux-initramfs-tool\n" +
		"gone\t2\tamd64\tconfig-files\tok\t\n" +
		"virt\t1\tamd64\tinstalled\tok\tfeature (= 3), other\n")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		depends string
		missing []string
	}{
		{"", nil},
		{"kmod, linux-base (>= 4.3~), initramfs-tools (>= 0.120+deb8u2) | linux-initramfs-tool", nil},
		{"dracut | linux-initramfs-tool", nil},
		{"kmod:any (>= 1)", nil},
		{"linux-base (>= 4.10)", []string{"linux-base (>= 4.10)"}},
		{"gone", []string{"gone"}},
		{"a | b (<< 2), kmod", []string{"a | b (<< 2)"}},
		{"feature (>= 2)", nil},
		{"feature (>= 4)", []string{"feature (>= 4)"}},
		{"other (>= 1)", []string{"other (>= 1)"}},
		{"kmod (= 30+20221128-1), kmod (>> 29), kmod (<= 31)", nil},
	} {
		needs, err := parseRelations(c.depends)
		if err != nil {
			t.Errorf("%q: %v", c.depends, err)
		} else if got := s.missing(needs); !slices.Equal(got, c.missing) {
			t.Errorf("%q: missing %q, want %q", c.depends, got, c.missing)
		}
	}
	for _, bad := range []string{"a b", "a (1)", "a (>= )", "-a", "a (>= 1", "|"} {
		if got, err := parseRelations(bad); err == nil {
			t.Errorf("%q was read as %v", bad, got)
		}
	}
}

func FuzzParseRelations(f *testing.F) {
	f.Add("kmod, linux-base (>= 4.3~), a:any | b (<< 1:2-3)")
	f.Add("(")
	f.Fuzz(func(t *testing.T, field string) {
		all, err := parseRelations(field)
		if err != nil {
			return
		}
		for _, group := range all {
			for _, r := range group { // what is printed reads back as the same
				back, err := parseRelations(r.String())
				if err != nil || len(back) != 1 || back[0][0] != r {
					t.Fatalf("%+v reads back as %v, %v", r, back, err)
				}
			}
		}
	})
}

func FuzzParseContents(f *testing.F) {
	f.Add("-rw-r--r-- root/root         2 2026-11-22 09:57 ./boot/vmlinuz-6.12.9-amd64\n")
	f.Add("lrwxrwxrwx root/root 0 2026-11-22 09:57 ./lib/modules/x/build -> /usr/src/y\n")
	f.Add("hrw-r--r-- root/root 0 2026-11-22 09:57 ./a link to ./b\ndrwxr-xr-x root/root 0 2026-11-22 09:57 ./\n")
	f.Fuzz(func(t *testing.T, out string) {
		files, err := parseContents(out)
		if err == nil && len(files) > len(out) {
			t.Fatal("more files than bytes")
		}
		a := archive{Files: files}
		a.ships("x")
		a.fileOf("x")
	})
}
