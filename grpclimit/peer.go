package grpclimit

import (
	"context"
	"net"
	"net/netip"

	"google.golang.org/grpc/peer"
)

// ipv6Bits is the part of an IPv6 address that a client can't choose: it is
// usually given a whole /64.
const ipv6Bits = 64

// PeerAddress is the default key: the address at the other end of the
// connection, without its port, and of an IPv6 address the /64 that it is in.
// Behind a proxy that is the proxy's. Addresses of other networks are taken
// whole; it is empty where there is none.
func PeerAddress(ctx context.Context) string {
	p, ok := peer.FromContext(ctx)
	if !ok || p.Addr == nil {
		return ""
	}
	ip, ok := ipOf(p.Addr)
	if !ok {
		return p.Addr.String()
	}
	if !ip.Is6() {
		return ip.String()
	}
	return netip.PrefixFrom(ip, ipv6Bits).Masked().String()
}

// ipOf is the IP address of addr; ok says whether it has one. Where net/http
// serves gRPC, an address is known by its text alone.
func ipOf(addr net.Addr) (ip netip.Addr, ok bool) {
	if tcp, ok := addr.(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr().Unmap(), true
	}
	if parsed, err := netip.ParseAddrPort(addr.String()); err == nil {
		return parsed.Addr().Unmap(), true
	}
	ip, err := netip.ParseAddr(addr.String()) // as some middleware leaves it
	return ip.Unmap(), err == nil
}
