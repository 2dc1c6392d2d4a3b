package httplimit

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// The bounds of the work that a header can cause, far above the headers of proxies.
// A hop beyond them is malformed.
const (
	maxHops    = 64
	maxElement = 1024 // bytes

	mappedBits = 96 // bits before an IPv4 address that is mapped into IPv6
)

// proxies is the networks of the trusted proxies.
type proxies []netip.Prefix

// include reports whether a plain address is in one of the networks, some of which
// may be mapped ones.
func (p proxies) include(addr netip.Addr) bool {
	mapped := netip.AddrFrom16(addr.As16())
	for _, network := range p {
		if network.Contains(addr) || network.Bits() >= mappedBits && network.Contains(mapped) {
			return true
		}
	}
	return false
}

// clientAddr returns the client of a request from peer. It is not sure if two headers
// name two clients, or if the peer has written no valid address: its client may then
// have written the other header.
func clientAddr(peer netip.Addr, h http.Header, trusted proxies) (client netip.Addr, sure bool) {
	if !trusted.include(peer) {
		return peer, true
	}
	listed, legible := trusted.walk(peer, h.Values("X-Forwarded-For"), parseHop)
	stated, alsoLegible := trusted.walk(peer, h.Values("Forwarded"), parseElement)
	sure = legible && alsoLegible
	if listed == peer {
		return stated, sure
	}
	return listed, sure && (stated == listed || stated == peer)
}

// walk follows the hops of a header, the last one first, as long as each is trusted
// to name the one before it. An untrusted client can write only before the hop that a
// proxy added, and that part is never read. The result is not legible if the walk
// ends at the peer itself, by a hop without an address.
func (p proxies) walk(peer netip.Addr, lines []string, parse func(string) (netip.Addr, bool)) (hop netip.Addr, legible bool) {
	hop, hops := peer, 0
	for _, line := range slices.Backward(lines) {
		for rest, more := line, true; more; hops++ {
			var last string
			rest, last, more = cutLast(rest)
			if last == "" {
				return hop, true
			}
			if hops == maxHops || len(last) > maxElement {
				return hop, hop != peer
			}
			addr, ok := parse(last)
			switch {
			case !ok:
				return hop, hop != peer
			case !addr.IsValid():
				return hop, true
			}
			hop = plain(addr)
			if !p.include(hop) {
				return hop, true
			}
		}
	}
	return hop, true
}

// cutLast cuts a list at its last comma that is not quoted. It reads from the end, so
// that an open quote of a client can't swallow the element of a proxy. It reads at
// most the longest element.
func cutLast(list string) (before, last string, found bool) {
	inQuotes, least := false, max(0, len(list)-maxElement-1)
	for i := len(list) - 1; i >= least; i-- {
		switch {
		case list[i] == '"' && !escaped(list, i):
			inQuotes = !inQuotes
		case list[i] == ',' && !inQuotes:
			return list[:i], trim(list[i+1:]), true
		}
	}
	return "", trim(list), false
}

// escaped reports whether an odd number of backslashes stands before s[i].
func escaped(s string, i int) bool {
	before := strings.TrimRight(s[:i], `\`)
	return (i-len(before))%2 == 1
}

func trim(s string) string { return strings.Trim(s, " \t") }

// parseElement parses an element of Forwarded. It returns the address of "for", which
// is invalid if there is none. It is strict about the rest of the element, because a
// proxy writes it well, and a client might not.
func parseElement(element string) (addr netip.Addr, ok bool) {
	node, seen := "", false
	for rest := element; rest != ""; {
		if rest[0] == ';' { // empty pairs are allowed
			rest = trim(rest[1:])
			continue
		}
		name, after, _ := strings.Cut(rest, "=")
		value, after, valid := cutValue(after)
		isFor := strings.EqualFold(name, "for")
		if !isToken(name) || !valid || isFor && seen {
			return netip.Addr{}, false
		}
		if isFor {
			node, seen = value, true
		}
		rest = after
	}
	if !seen {
		return netip.Addr{}, true
	}
	return parseHop(node)
}

// cutValue parses a value, a token or a quoted string, up to the next semicolon or
// the end.
func cutValue(s string) (value, after string, ok bool) {
	if !strings.HasPrefix(s, `"`) {
		end := strings.IndexByte(s, ';')
		if end < 0 {
			end = len(s)
		}
		value = trim(s[:end])
		return value, s[end:], isToken(value)
	}
	end := 1
	for end < len(s) && (s[end] != '"' || escaped(s[:end], end)) {
		end++
	}
	if end == len(s) {
		return "", "", false
	}
	after = trim(s[end+1:])
	return unescape(s[1:end]), after, after == "" || after[0] == ';'
}

// isToken reports whether a byte may be in a token. It accepts more than RFC 9110,
// because addresses with a port often come unquoted.
func isToken(s string) bool { return s != "" && !strings.ContainsAny(s, " \t\"\\;,=") }

// unescape removes the backslashes of quoted pairs.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// parseHop parses an address with or without port: 192.0.2.1, 192.0.2.1:80,
// 2001:db8::1, [2001:db8::1], [2001:db8::1]:80. Names and obfuscated
// identifiers are not ok.
func parseHop(node string) (addr netip.Addr, ok bool) {
	if addr, err := netip.ParseAddr(node); err == nil {
		return addr, true
	}
	host, port := node, ""
	if end := strings.LastIndexByte(node, ':'); end > strings.LastIndexByte(node, ']') {
		host, port = node[:end], node[end+1:]
		if !validPort(port) {
			return netip.Addr{}, false
		}
	}
	inner, bracketed := strings.CutPrefix(host, "[")
	closed := true
	if bracketed {
		inner, closed = strings.CutSuffix(inner, "]")
	}
	addr, err := netip.ParseAddr(inner)
	return addr, err == nil && closed && bracketed == addr.Is6()
}

// validPort reports whether s is a port, or an obfuscated one.
func validPort(s string) bool {
	if strings.HasPrefix(s, "_") {
		return len(s) > 1
	}
	return len(s) >= 1 && len(s) <= 5 && strings.Trim(s, "0123456789") == ""
}
