package linux

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kernwave/kernwave/internal/agent"
)

const (
	routes4 = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n" +
		"br0\t00000000\t010200C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n" +
		"br0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n" +
		"ppp0\t00000000\t00000000\t0001\t0\t0\t0\t00000000\t0\t0\t0\n"
	routes6 = "00000000000000000000000000000000 00 00000000000000000000000000000000 00 fe800000000000000000000000000001 00000400 00000003 00000000 00000003 ens1\n" +
		"00000000000000000000000000000000 00 00000000000000000000000000000000 00 00000000000000000000000000000000 ffffffff 00000001 00000000 00200200 lo\n" +
		"20010db8000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001 ens1\n"
	inet6 = "20010db8000000000000000000000005 02 40 00 80 ens1\n" +
		"20010db80000000000000000000000aa 02 40 00 01 ens1\n" + // drawn at each boot
		"20010db80000000000000000000000bb 02 40 00 48 ens1\n" + // somebody else has it
		"fe800000000000005054000000123456 02 40 20 80 ens1\n" +
		"20010db8000000000000000000000006 03 40 00 80 other\n"
)

func TestNetwork(t *testing.T) {
	m := newMachine(t, map[string]string{
		"proc/net/route": routes4, "proc/net/ipv6_route": routes6, "proc/net/if_inet6": inet6,
		"sys/class/net/ens1/device/x": "", "sys/class/net/ens1/flags": "0x1003\n", "sys/class/net/ens1/carrier": "1\n",
		"sys/class/net/ens2/device/x": "", "sys/class/net/ens2/flags": "0x1003\n", "sys/class/net/ens2/carrier": "0\n",
		"sys/class/net/ens3/device/x": "", "sys/class/net/ens3/flags": "0x1002\n", // down by configuration
		"sys/class/net/br0/flags": "0x1003\n", "sys/class/net/br0/carrier": "1\n", // carries the default route
		"sys/class/net/veth1/flags": "0x1003\n", "sys/class/net/lo/flags": "0x9\n",
	})
	m.addresses = func(link string) ([]string, error) {
		return map[string][]string{"br0": {"192.0.2.9/24"}, "ens1": {"198.51.100.4/24"}}[link], nil
	}
	m.answers = func(_ context.Context, r route) (bool, error) {
		if r.link == "br0" {
			return true, nil
		}
		return false, errors.New("no socket")
	}
	got, err := m.Network(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := agent.Network{
		Links: []agent.Link{
			{Name: "br0", Carrier: true, Addresses: []string{"192.0.2.9/24"}},
			{Name: "ens1", Carrier: true, Addresses: []string{"198.51.100.4/24", "2001:db8::5/64"}},
			{Name: "ens2"},
		},
		Gateways: []agent.Gateway{{Address: "192.0.2.1", Link: "br0", Answers: true}, {Address: "fe80::1", Link: "ens1"}},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	m.addresses = func(string) ([]string, error) { return nil, errors.New("gone") }
	if _, err := m.Network(t.Context()); err == nil {
		t.Error("addresses that cannot be read are none")
	}
	if err := os.Remove(m.path("/proc/net/route")); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Network(t.Context()); err == nil {
		t.Error("routes that cannot be read are none")
	}
}

func FuzzRoutes(f *testing.F) {
	f.Add(routes4, routes6, inet6)
	f.Add("x 00000000 zz 0003 0 0 0 00000000", "0 00", "0 0 0 00 0 x")
	f.Add("", "", "fe80000000000000505400fffe000001 02 81 00 80 ens1") // no address has a prefix of 129 bits
	f.Fuzz(func(t *testing.T, r4, r6, a6 string) {
		for _, r := range append(parseRoutes4(r4), parseRoutes6(r6)...) {
			if !r.gateway.IsValid() || r.gateway.IsUnspecified() || r.link == "" {
				t.Fatalf("%+v", r)
			}
		}
		for _, a := range addresses6(a6, "ens1") {
			if _, err := netip.ParsePrefix(a); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// A gateway that is there answers, one that is not does not: over a real link, to a network namespace that plays the router.
func TestGatewaysAreAskedOnTheLink(t *testing.T) {
	if os.Getenv("KERNWAVE_TEST_LINK") != "" {
		askOverLink(t)
		return
	}
	for _, tool := range []string{"ip", "unshare", "nsenter"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed: gateways are only asked in virtual machines", tool)
		}
	}
	if out, err := exec.Command("unshare", "-n", "ip", "link", "add", "kwa", "type", "veth", "peer", "name", "kwb").CombinedOutput(); err != nil {
		t.Skipf("no network namespaces or veth here: %v: %s", err, out)
	}
	cmd := exec.Command("unshare", "-n", os.Args[0], "-test.run=^TestGatewaysAreAskedOnTheLink$", "-test.v")
	cmd.Env = append(os.Environ(), "KERNWAVE_TEST_LINK=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

func askOverLink(t *testing.T) {
	router := exec.Command("unshare", "-n", "cat") // lives until its input ends
	in, err := router.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := router.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { in.Close(); router.Wait() }()
	pid := strconv.Itoa(router.Process.Pid)
	mine, _ := os.Readlink("/proc/self/ns/net")
	for theirs := mine; theirs == mine; theirs, _ = os.Readlink("/proc/" + pid + "/ns/net") {
		time.Sleep(time.Millisecond)
	}
	run := func(line string) {
		t.Helper()
		f := strings.Fields(line)
		if out, err := exec.Command(f[0], f[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", line, err, out)
		}
	}
	run("ip link add kwa type veth peer name kwb netns " + pid)
	run("ip addr add 192.0.2.2/24 dev kwa")
	run("ip link set kwa up")
	run("nsenter -t " + pid + " -n ip addr add 192.0.2.1/24 dev kwb")
	run("nsenter -t " + pid + " -n ip -6 addr add fe80::1/64 dev kwb nodad")
	run("nsenter -t " + pid + " -n ip link set kwb up")
	ask := func(gateway string, d time.Duration) bool {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), d)
		defer cancel()
		ok, err := probe(ctx, route{netip.MustParseAddr(gateway), "kwa"})
		if err != nil {
			t.Errorf("%s: %v", gateway, err)
		}
		return ok
	}
	// Those that answer come first: our own link-local address needs a second or two before it may be used.
	for _, c := range []struct {
		gateway string
		within  time.Duration
		want    bool
	}{
		{"192.0.2.1", 10 * time.Second, true},
		{"fe80::1", 10 * time.Second, true},
		{"192.0.2.77", time.Second, false},
		{"fe80::77", time.Second, false},
	} {
		if got := ask(c.gateway, c.within); got != c.want {
			t.Errorf("%s answers: %v, want %v", c.gateway, got, c.want)
		}
	}
	// The router goes: an answer of a moment ago is worth nothing.
	run("nsenter -t " + pid + " -n ip link set kwb down")
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if ok, _ := probe(ctx, route{netip.MustParseAddr("192.0.2.1"), "kwa"}); ok {
		t.Error("a router that is gone answers")
	}
}
