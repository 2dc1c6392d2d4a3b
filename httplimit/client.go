package httplimit

import (
	"net/http"
	"net/netip"
)

// ClientKey is the default [Options.Key]: the address of the client without
// its port, and of an IPv6 address the /64 that it is in, since a single
// customer usually has at least that many. An IPv4 address that is mapped into
// IPv6 is the IPv4 address; a zone does not count. Where the connection has no
// IP address, as a Unix socket's, the key is [http.Request.RemoteAddr] as it
// is.
//
// The client is the peer of the connection, unless that is one of the trusted:
// then the hops that X-Forwarded-For or Forwarded (RFC 7239) lists are walked
// from the last to the first, each believed only if the one after it is
// trusted, up to the first that is not. A hop that is no address (malformed,
// empty, "unknown", obfuscated) ends the walk at the one that named it; so do a
// 65th hop and one of more than 1024 bytes.
//
// Where both headers name a client it has to be the same: a proxy that writes
// one passes on what its clients write into the other. All requests through one
// peer that contradict themselves share a key of their own, and with them those of
// which the peer itself has written what is no address.
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
		// Not the peer's own key: whoever fills that shuts out its health checks.
		return addrKey(peer) + " contradictory"
	}
	return addrKey(client)
}

// peerAddr reads a RemoteAddr: with a port as net/http sets it, or without one
// as some middleware leaves it.
func peerAddr(remote string) (netip.Addr, bool) {
	if ap, err := netip.ParseAddrPort(remote); err == nil {
		return plain(ap.Addr()), true
	}
	addr, err := netip.ParseAddr(remote)
	return plain(addr), err == nil
}

// plain is an address without zone, and not mapped.
func plain(addr netip.Addr) netip.Addr { return addr.WithZone("").Unmap() }

func addrKey(addr netip.Addr) string {
	if addr.Is4() {
		return addr.String()
	}
	network, _ := addr.Prefix(64) // fails for IPv4 only
	return network.String()
}
