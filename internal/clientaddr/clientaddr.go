// Package clientaddr finds the address of a client inside of another one.
package clientaddr

import "net/netip"

// nat64 is the prefix of IPv4 addresses that were translated into IPv6 (RFC 6052).
var nat64 = netip.MustParsePrefix("64:ff9b::/96")

// Inner returns the IPv4 address inside of an IPv6 address: of one mapped into IPv6, or
// translated by NAT64. It returns any other address itself. A zone is dropped.
func Inner(addr netip.Addr) netip.Addr {
	addr = addr.WithZone("").Unmap()
	if nat64.Contains(addr) {
		b := addr.As16()
		return netip.AddrFrom4([4]byte(b[12:]))
	}
	return addr
}
