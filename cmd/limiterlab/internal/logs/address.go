package logs

import (
	"bytes"
	"net/netip"

	"github.com/seed-e56e777b/limiter/internal/clientaddr"
)

// parseAddress reads an IP address: alone, in brackets, or with a port behind
// it. withPort is true if it has one. An IPv4 address inside an IPv6 one is
// returned as IPv4, and the zone of a link-local one is cut.
func parseAddress(text []byte) (a netip.Addr, withPort, ok bool) {
	if a, rest, ok := parseIPv4(text); ok {
		return a, len(rest) > 0, len(rest) == 0 || isPort(rest)
	}
	if len(text) < 2 || len(text) > maxAddress || bytes.IndexByte(text, ':') < 0 {
		return a, false, false
	}
	if text[0] == '[' {
		end := bytes.IndexByte(text, ']')
		if end < 0 {
			return a, false, false
		}
		rest := text[end+1:]
		a, ok = parseIPv6(text[1:end])
		return a, len(rest) > 0, ok && (len(rest) == 0 || isPort(rest))
	}
	if a, ok = parseIPv6(text); ok {
		return a, false, true
	}
	colon := bytes.LastIndexByte(text, ':') // HAProxy writes a port behind an IPv6 address without brackets
	a, ok = parseIPv6(text[:colon])
	return a, true, ok && isPort(text[colon:])
}

// maxAddress is more than the length of any address with brackets, zone and
// port, in bytes.
const maxAddress = 80

// parseIPv4 reads the IPv4 address at the beginning of a text, and returns the
// text behind it. It allocates nothing, which netip.ParseAddr would.
func parseIPv4(text []byte) (a netip.Addr, rest []byte, ok bool) {
	var parts [4]byte
	i := 0
	for part := range parts {
		if part > 0 {
			if i >= len(text) || text[i] != '.' {
				return a, nil, false
			}
			i++
		}
		begin, n := i, 0
		for i < len(text) && isDigit(text[i]) && i-begin < 3 {
			n = 10*n + int(text[i]-'0')
			i++
		}
		if i == begin || n > 255 || i-begin > 1 && text[begin] == '0' {
			return a, nil, false
		}
		parts[part] = byte(n)
	}
	return netip.AddrFrom4(parts), text[i:], true
}

func parseIPv6(text []byte) (netip.Addr, bool) {
	a, err := netip.ParseAddr(string(text))
	return clientaddr.Inner(a), err == nil && bytes.IndexByte(text, ':') >= 0
}

// isPort reports whether a text is a colon and the number of a port.
func isPort(text []byte) bool {
	if len(text) < 2 || len(text) > 6 || text[0] != ':' {
		return false
	}
	return portOf(text) <= 65535
}

// portOf returns the number behind the last colon, or a huge one if there is
// none.
func portOf(text []byte) int {
	n := 0
	digits := text[bytes.LastIndexByte(text, ':')+1:]
	if len(digits) == 0 || len(digits) > 5 || len(digits) == len(text) {
		return 1 << 20
	}
	for _, d := range digits {
		if !isDigit(d) {
			return 1 << 20
		}
		n = 10*n + int(d-'0')
	}
	return n
}

func isDigit(b byte) bool { return b >= '0' && b <= '9' }

// firstOfList returns the first of the values that commas separate, as headers
// like X-Forwarded-For have them. The first is the client. It also reads the
// header Forwarded of RFC 7239.
func firstOfList(text []byte) []byte {
	text = bytes.TrimSpace(text)
	if len(text) > 4 && bytes.EqualFold(text[:4], []byte("for=")) {
		text, _, _ = bytes.Cut(text[4:], []byte(";"))
	}
	text, _, _ = bytes.Cut(text, []byte(","))
	return bytes.Trim(text, ` "+`)
}

// parseFirst reads the first address of a list, or a single one.
func parseFirst(text []byte) (a netip.Addr, withPort, ok bool) {
	if a, withPort, ok = parseAddress(text); ok {
		return a, withPort, ok
	}
	if first := firstOfList(text); len(first) < len(text) {
		return parseAddress(first)
	}
	return a, withPort, false
}

// listHas reports whether an address is among the values that commas separate,
// behind the first.
func listHas(list []byte, a netip.Addr) bool {
	_, rest, more := bytes.Cut(list, []byte(","))
	for more {
		var value []byte
		value, rest, more = bytes.Cut(rest, []byte(","))
		value = bytes.TrimPrefix(value, []byte("%20"))
		if b, _, ok := parseAddress(bytes.Trim(value, ` "+`)); ok && a == b {
			return true
		}
	}
	return false
}

// outsideAddress returns the first IPv4 address in a line that is a word or in
// quotes, and of no private network. Versions of programs look like addresses,
// but stand behind a slash.
func outsideAddress(line []byte) (netip.Addr, bool) {
	for i, b := range line {
		if !isDigit(b) || i > 0 && bytes.IndexByte([]byte(" \t\"=,(["), line[i-1]) < 0 {
			continue
		}
		a, rest, ok := parseIPv4(line[i:])
		if ok && !isInternal(a) && (len(rest) == 0 || bytes.IndexByte([]byte(" \t\",)]:;"), rest[0]) >= 0) {
			return a, true
		}
	}
	return netip.Addr{}, false
}

// isNothing reports whether a text stands for no value.
func isNothing(text []byte) bool {
	switch string(text) {
	case "", "-", "unknown", "unix:", "null", "(null)", "<nil>", `""`:
		return true
	}
	return false
}

// isName reports whether a text may be the name of a host in place of its
// address. Numbers, times and long hexadecimal numbers are none.
func isName(text []byte) bool {
	if len(text) == 0 || len(text) > 253 || text[0] == '-' || text[0] == '.' {
		return false
	}
	letter, hex := false, true
	for _, b := range text {
		switch {
		case b >= 'a' && b <= 'f', b >= 'A' && b <= 'F':
			letter = true
		case b >= 'g' && b <= 'z', b >= 'G' && b <= 'Z':
			letter, hex = true, false
		case b == '.', b == '_':
			hex = false
		case b != '-' && !isDigit(b):
			return false
		}
	}
	return letter && !(hex && len(text) >= 16)
}

// isInternal reports whether an address is of a private network, the machine
// itself, or one shared behind a carrier. Balancers have such addresses, and
// clients on the Internet have none.
func isInternal(a netip.Addr) bool {
	return a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast() || shared.Contains(a)
}

var shared = netip.MustParsePrefix("100.64.0.0/10")

// appendNetwork appends an address as a limit counts it: IPv4 as it is, also
// inside of IPv6 (mapped or NAT64), IPv6 as its /64. Because one customer usually has a whole /64, its addresses share a
// limit.
func appendNetwork(key []byte, a netip.Addr) []byte {
	if a.Is4() {
		return a.AppendTo(key)
	}
	return netip.PrefixFrom(a, 64).Masked().AppendTo(key)
}
