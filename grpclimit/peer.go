package grpclimit

import (
	"context"
	"net"
	"net/netip"

	"google.golang.org/grpc/peer"
)

// ipv6Bits is the length, in bits, of the part of an IPv6 address that a client can't
// choose. A client usually has a whole /64.
const ipv6Bits = 64

// nat64 is the prefix of IPv4 addresses that were translated into IPv6 (RFC 6052).
var nat64 = netip.MustParsePrefix("64:ff9b::/96")

// PeerAddress is the default [Options.Key]: the address of the connection's peer,
// without its port, or the /64 of an IPv6 address. An IPv4 address mapped into IPv6, or
// translated by NAT64 (64:ff9b::/96), is the IPv4 address. Behind a proxy, that is the
// proxy's address. An address of another network is used whole. The key is empty if
// there is no address.
func PeerAddress(ctx context.Context) string {
	p, ok := peer.FromContext(ctx)
	if !ok || p.Addr == nil {
		return ""
	}
	ip, ok := ipOf(p.Addr)
	if !ok {
		return p.Addr.String()
	}
	if ip = ip.WithZone(""); nat64.Contains(ip) {
		b := ip.As16()
		ip = netip.AddrFrom4([4]byte(b[12:]))
	}
	if !ip.Is6() {
		return ip.String()
	}
	return netip.PrefixFrom(ip, ipv6Bits).Masked().String()
}

// ipOf returns the IP address of addr, if it has one. If net/http serves gRPC, addr
// has a text only.
func ipOf(addr net.Addr) (ip netip.Addr, ok bool) {
	if tcp, ok := addr.(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr().Unmap(), true
	}
	if parsed, err := netip.ParseAddrPort(addr.String()); err == nil {
		return parsed.Addr().Unmap(), true
	}
	ip, err := netip.ParseAddr(addr.String()) // some middleware removes the port
	return ip.Unmap(), err == nil
}
