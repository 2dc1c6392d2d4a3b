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
	tcp, ok := p.Addr.(*net.TCPAddr)
	if !ok {
		return p.Addr.String()
	}
	ip := tcp.AddrPort().Addr().Unmap()
	if !ip.Is6() {
		return ip.String()
	}
	return netip.PrefixFrom(ip, ipv6Bits).Masked().String()
}
