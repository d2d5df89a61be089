package linux

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// askEvery is the pause between questions to a gateway; the first may get lost while a port learns.
const askEvery = 500 * time.Millisecond

// probe asks a gateway on its link for its hardware address, by a packet of our own: what the kernel remembers of a
// neighbour may be minutes old. A link without such addresses (a tunnel) has nobody to ask; there its being up has to do.
func probe(ctx context.Context, r route) (bool, error) {
	link, err := net.InterfaceByName(r.link)
	if err != nil {
		return false, err
	}
	if len(link.HardwareAddr) != 6 || link.Flags&net.FlagPointToPoint != 0 {
		return link.Flags&net.FlagRunning != 0, nil
	}
	if r.gateway.Is4() {
		return askARP(ctx, link, r.gateway)
	}
	return askNDP(ctx, link, r.gateway)
}

// askARP is RFC 826's request, sent to everyone on the link.
func askARP(ctx context.Context, link *net.Interface, gateway netip.Addr) (bool, error) {
	const ethARP = 0x0806
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, int(bigEndian(ethARP)))
	if err != nil {
		return false, fmt.Errorf("open a packet socket: %w", err)
	}
	defer unix.Close(fd)
	here := &unix.SockaddrLinklayer{Protocol: bigEndian(ethARP), Ifindex: link.Index}
	if err := unix.Bind(fd, here); err != nil {
		return false, fmt.Errorf("listen on %s: %w", link.Name, err)
	}
	everyone := &unix.SockaddrLinklayer{Protocol: bigEndian(ethARP), Ifindex: link.Index, Halen: 6, Addr: [8]uint8{255, 255, 255, 255, 255, 255}}
	request := arpRequest(link.HardwareAddr, sourceFor(link, gateway), gateway)
	return ask(ctx, fd, request, everyone, func(b []byte) bool { return isARPReply(b, gateway) })
}

func arpRequest(mac net.HardwareAddr, source, target netip.Addr) []byte {
	b := []byte{0, 1, 8, 0, 6, 4, 0, 1} // Ethernet, IPv4, their lengths, request
	b = append(b, mac...)
	b = append(b, source.AsSlice()...)
	b = append(b, make([]byte, 6)...)
	return append(b, target.AsSlice()...)
}

func isARPReply(b []byte, from netip.Addr) bool {
	if len(b) < 28 || binary.BigEndian.Uint16(b[6:]) != 2 {
		return false
	}
	sender, _ := netip.AddrFromSlice(b[14:18])
	return sender == from
}

// sourceFor is our address in the gateway's network. Without one, none is given, as RFC 5227 asks for a probe.
func sourceFor(link *net.Interface, gateway netip.Addr) netip.Addr {
	as, err := link.Addrs()
	if err == nil {
		for _, a := range as {
			if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && n.Contains(gateway.AsSlice()) {
				ip, _ := netip.AddrFromSlice(n.IP.To4())
				return ip
			}
		}
	}
	return netip.IPv4Unspecified()
}

// askNDP is RFC 4861's neighbour solicitation. The kernel fills in our address and the checksum.
func askNDP(ctx context.Context, link *net.Interface, gateway netip.Addr) (bool, error) {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMPV6)
	if err != nil {
		return false, fmt.Errorf("open an ICMPv6 socket: %w", err)
	}
	defer unix.Close(fd)
	err = errors.Join(
		unix.BindToDevice(fd, link.Name),
		unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_IF, link.Index),
		// Receivers drop what may have come through a router: less than 255.
		unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, 255),
	)
	if err != nil {
		return false, fmt.Errorf("use %s: %w", link.Name, err)
	}
	g := gateway.As16()
	to := &unix.SockaddrInet6{ZoneId: uint32(link.Index), Addr: [16]byte{0xff, 0x02, 11: 1, 12: 0xff, 13: g[13], 14: g[14], 15: g[15]}}
	return ask(ctx, fd, ndpRequest(link.HardwareAddr, g), to, func(b []byte) bool { return isNDPReply(b, g) })
}

func ndpRequest(mac net.HardwareAddr, target [16]byte) []byte {
	b := append([]byte{135, 0, 0, 0, 0, 0, 0, 0}, target[:]...)
	return append(append(b, 1, 1), mac...) // our hardware address
}

func isNDPReply(b []byte, from [16]byte) bool {
	return len(b) >= 24 && b[0] == 136 && [16]byte(b[8:24]) == from
}

// ask sends request until something that counts comes back, or ctx ends, which is no error: nobody answered.
func ask(ctx context.Context, fd int, request []byte, to unix.Sockaddr, counts func([]byte) bool) (bool, error) {
	wait := unix.NsecToTimeval(int64(askEvery / 5))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait); err != nil {
		return false, err
	}
	buf := make([]byte, 1500)
	var sendErr error
	for ctx.Err() == nil {
		// A link that is down refuses; it may come up while we are asking.
		sendErr = unix.Sendto(fd, request, 0, to)
		for next := time.Now().Add(askEvery); time.Now().Before(next) && ctx.Err() == nil; {
			n, _, err := unix.Recvfrom(fd, buf, 0)
			switch {
			case err == nil && counts(buf[:n]):
				return true, nil
			case err == nil, errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
			case errors.Is(err, unix.ENETDOWN):
				time.Sleep(askEvery / 5) // the error came at once, not after a wait
			default:
				return false, fmt.Errorf("listen: %w", err)
			}
		}
	}
	if sendErr != nil {
		return false, fmt.Errorf("ask: %w", sendErr)
	}
	return false, nil
}

// bigEndian is a number as the network has it, in the machine's memory.
func bigEndian(v uint16) uint16 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], v)
	return binary.NativeEndian.Uint16(b[:])
}
