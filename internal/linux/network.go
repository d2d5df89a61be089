package linux

import (
	"cmp"
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kernwave/kernwave/internal/agent"
)

// probeTime is how long gateways have to answer: a switch port that has just come up, or a busy virtual router, needs a second.
const probeTime = 3 * time.Second

// maxGateways bounds how many are asked; a host has one or two.
const maxGateways = 16

// route is a default route with a next hop.
type route struct {
	gateway netip.Addr
	link    string
}

// Network looks at the links with hardware behind them, and at those that carry a default route (a bond, a bridge);
// and asks the gateways of the main routing table's default routes whether they are there, on the link.
func (h *Host) Network(ctx context.Context) (agent.Network, error) {
	var n agent.Network
	routes, err := h.defaultRoutes()
	if err != nil {
		return n, fmt.Errorf("read the default routes: %w", err)
	}
	entries, err := os.ReadDir(h.path("/sys/class/net"))
	if err != nil {
		return n, fmt.Errorf("list the network's links: %w", err)
	}
	for _, e := range entries {
		name := e.Name()
		carries := slices.ContainsFunc(routes, func(r route) bool { return r.link == name })
		_, noDevice := os.Stat(h.path("/sys/class/net/" + name + "/device"))
		flags, err := strconv.ParseUint(h.text("/sys/class/net/"+name+"/flags"), 0, 32)
		if (noDevice != nil && !carries) || err != nil || flags&unix.IFF_UP == 0 {
			continue
		}
		l := agent.Link{Name: name, Carrier: h.text("/sys/class/net/"+name+"/carrier") == "1"}
		if l.Addresses, err = h.addresses(name); err != nil {
			return n, fmt.Errorf("read the addresses of %s: %w", name, err)
		}
		l.Addresses = append(l.Addresses, addresses6(h.raw("/proc/net/if_inet6"), name)...)
		slices.Sort(l.Addresses)
		n.Links = append(n.Links, l)
	}
	n.Gateways = h.askGateways(ctx, routes)
	return n, nil
}

// askGateways asks all at once: each may take its time not to answer.
func (h *Host) askGateways(ctx context.Context, routes []route) []agent.Gateway {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	gs := make([]agent.Gateway, len(routes))
	var wg sync.WaitGroup
	for i, r := range routes {
		wg.Go(func() {
			ok, err := h.answers(ctx, r)
			if err != nil {
				h.log.WarnContext(ctx, "a gateway could not be asked", "gateway", r.gateway.String(), "link", r.link, "err", err)
			}
			gs[i] = agent.Gateway{Address: r.gateway.String(), Link: r.link, Answers: ok}
		})
	}
	wg.Wait()
	slices.SortFunc(gs, func(a, b agent.Gateway) int {
		return cmp.Or(cmp.Compare(a.Link, b.Link), cmp.Compare(a.Address, b.Address))
	})
	return gs
}

// defaultRoutes reads the main tables of both families. A kernel without IPv6 has no file for it.
func (h *Host) defaultRoutes() ([]route, error) {
	b, err := os.ReadFile(h.path("/proc/net/route"))
	if err != nil {
		return nil, err
	}
	rs := append(parseRoutes4(string(b)), parseRoutes6(h.raw("/proc/net/ipv6_route"))...)
	slices.SortFunc(rs, func(a, b route) int { return cmp.Or(cmp.Compare(a.link, b.link), a.gateway.Compare(b.gateway)) })
	rs = slices.Compact(rs)
	return rs[:min(len(rs), maxGateways)], nil
}

// parseRoutes4 reads /proc/net/route, whose addresses are in the machine's byte order.
func parseRoutes4(text string) []route {
	var rs []route
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 8 || f[1] != "00000000" || f[7] != "00000000" {
			continue
		}
		flags, err := strconv.ParseUint(f[3], 16, 32)
		gw, err2 := strconv.ParseUint(f[2], 16, 32)
		if err != nil || err2 != nil || flags&(unix.RTF_UP|unix.RTF_GATEWAY) != unix.RTF_UP|unix.RTF_GATEWAY || gw == 0 {
			continue
		}
		var a [4]byte
		binary.NativeEndian.PutUint32(a[:], uint32(gw))
		rs = append(rs, route{netip.AddrFrom4(a), f[0]})
	}
	return rs
}

// parseRoutes6 reads /proc/net/ipv6_route.
func parseRoutes6(text string) []route {
	var rs []route
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 10 || strings.Trim(f[0], "0") != "" || f[1] != "00" {
			continue
		}
		flags, err := strconv.ParseUint(f[8], 16, 32)
		gw, ok := parseHex6(f[4])
		if err != nil || !ok || flags&(unix.RTF_UP|unix.RTF_GATEWAY|unix.RTF_REJECT) != unix.RTF_UP|unix.RTF_GATEWAY || gw.IsUnspecified() {
			continue
		}
		rs = append(rs, route{gw, f[9]})
	}
	return rs
}

func parseHex6(s string) (netip.Addr, bool) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != 16 {
		return netip.Addr{}, false
	}
	return netip.AddrFrom16([16]byte(b)), true
}

// addresses4 asks the kernel for a link's IPv4 addresses of global scope.
func addresses4(link string) ([]string, error) {
	i, err := net.InterfaceByName(link)
	if err != nil {
		return nil, err
	}
	as, err := i.Addrs()
	if err != nil {
		return nil, err
	}
	var out []string
	for _, a := range as {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && n.IP.IsGlobalUnicast() {
			out = append(out, n.String())
		}
	}
	return out, nil
}

// addresses6 reads a link's global addresses from /proc/net/if_inet6. Those that are drawn anew at each boot (privacy
// extensions) are left out, and those that are not, or no longer, usable: they say nothing about the network.
func addresses6(text, link string) []string {
	var out []string
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) != 6 || f[5] != link || f[3] != "00" {
			continue
		}
		a, ok := parseHex6(f[0])
		bits, err := strconv.ParseUint(f[2], 16, 8)
		flags, err2 := strconv.ParseUint(f[4], 16, 32)
		const unfit = unix.IFA_F_TEMPORARY | unix.IFA_F_TENTATIVE | unix.IFA_F_DADFAILED
		if !ok || err != nil || err2 != nil || bits > 128 || flags&unfit != 0 {
			continue
		}
		out = append(out, netip.PrefixFrom(a, int(bits)).String())
	}
	return out
}
