package httplimit

import (
	"net/http"
	"net/netip"

	"github.com/seed-e56e777b/limiter/internal/clientaddr"
)

// ClientKey is the default [Options.Key]: the address of the client without its port.
// Of an IPv6 address it is the /64, because a single customer usually has at least
// that many addresses. An IPv4 address mapped into IPv6, or translated by NAT64
// (64:ff9b::/96), is the IPv4 address, and a zone is ignored. If the connection has
// no IP address, as a Unix socket, the key is [http.Request.RemoteAddr].
//
// The client is the peer of the connection, unless the peer is trusted. Then the hops
// in X-Forwarded-For or Forwarded (RFC 7239) are read from the last to the first.
// Each is accepted only if the hop after it is trusted; the client is the first
// untrusted hop. A hop without an address (malformed, empty, "unknown", obfuscated)
// ends the list at the hop that named it. So do a 65th hop and one of more than
// 1024 bytes.
//
// If both headers name a client, it has to be the same, because a proxy that writes
// one header passes the other on unchanged. All contradictory requests through one
// peer share a separate key. So do those for which the peer itself has written no
// valid address.
//
// Behind a proxy on a Unix socket, set RemoteAddr to a trusted address in a
// handler before this one.
func ClientKey(r *http.Request, trusted []netip.Prefix) string {
	peer, ok := peerAddr(r.RemoteAddr)
	if !ok {
		return r.RemoteAddr
	}
	client, sure := clientAddr(peer, r.Header, proxies(trusted))
	if !sure {
		// Not the peer's own key, which its health checks use.
		return addrKey(peer) + " contradictory"
	}
	return addrKey(client)
}

// peerAddr parses a RemoteAddr: with a port, as net/http sets it, or without one, as
// some middleware does.
func peerAddr(remote string) (netip.Addr, bool) {
	if ap, err := netip.ParseAddrPort(remote); err == nil {
		return plain(ap.Addr()), true
	}
	addr, err := netip.ParseAddr(remote)
	return plain(addr), err == nil
}

// plain returns an address without its zone, and not mapped into IPv6.
func plain(addr netip.Addr) netip.Addr { return addr.WithZone("").Unmap() }

func addrKey(addr netip.Addr) string {
	if addr = clientaddr.Inner(addr); addr.Is4() {
		return addr.String()
	}
	network, _ := addr.Prefix(64) // fails for IPv4 only
	return network.String()
}
