package operator

import "testing"

func TestRebuildSentence(t *testing.T) {
	for _, c := range []struct {
		r    Rebuild
		want string
	}{
		{Rebuild{Hosts: 2, Reported: 2}, "rebuilding after a restore: 2 of 2 hosts have reported"},
		{
			Rebuild{Hosts: 2, Reported: 1, Waiting: []Out{{"web-1", "silent"}}},
			"rebuilding after a restore: 1 of 2 hosts have reported; waiting for web-1 (silent)",
		},
		{
			Rebuild{Hosts: 5000, Reported: 3812, Waiting: []Out{{"a", "x"}, {"b", "y"}, {"c", "z"}, {"d", "z"}}},
			"rebuilding after a restore: 3,812 of 5,000 hosts have reported; waiting for a (x), b (y), c (z) and 1,185 more",
		},
		{Rebuild{Hosts: 1234567}, "rebuilding after a restore: 0 of 1,234,567 hosts have reported"},
	} {
		if got := c.r.String(); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
}
