package builtin

import "testing"

func TestLargeOf(t *testing.T) {
	for _, tc := range []struct {
		name, info string
		bytes      float64
		known      bool
	}{
		{"none", "", 0, false},
		{"small ones", "# Keysizes\r\ndb0_distrib_strings_sizes:1=1,4K=7\r\ndb0_distrib_hashes_items:1=1,512=2\r\n", 0, true},
		{"large ones in two databases", "db0_distrib_strings_sizes:1=1,16K=2\r\ndb1_distrib_strings_sizes:2M=1\r\n", 2*(32<<10*1.25+128) + 4<<20*1.25 + 128, true},
		{"a large hash holds any amount", "db0_distrib_strings_sizes:1=1\r\ndb0_distrib_hashes_items:2K=1\r\n", 0, false},
		{"another shape", "db0_distrib_strings_sizes:x=1\r\n", 0, false},
		{"empty", "db0_distrib_strings_sizes:\r\n", 0, false},
	} {
		if bytes, known := largeOf(tc.info); bytes != tc.bytes || known != tc.known {
			t.Errorf("%s: %v, %t; want %v, %t", tc.name, bytes, known, tc.bytes, tc.known)
		}
	}
}
