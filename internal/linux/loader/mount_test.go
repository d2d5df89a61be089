package loader

import "testing"

func FuzzParseMount(f *testing.F) {
	f.Add(`36 35 98:0 /mnt1 /mnt\0402 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`)
	f.Add(`1 1 0:1 / / ro - tmpfs t`)
	f.Fuzz(func(t *testing.T, line string) {
		m, err := parseMount(line)
		if err == nil && (m.Device == "" || m.FS == "" || m.Point == "") {
			t.Fatalf("%q gave %+v", line, m)
		}
	})
}
