package httplimit

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
)

// trustedNets are two proxies' networks, and one given in the mapped form.
var trustedNets = []netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/8"),
	netip.MustParsePrefix("2001:db8:ff::/48"),
	netip.MustParsePrefix("::ffff:172.16.0.0/108"),
}

// keyOf is the key of a request from remote with the lines of two headers.
func keyOf(remote string, listed, stated []string) string {
	r := httptest.NewRequest(http.MethodGet, "/", http.NoBody)
	r.RemoteAddr = remote
	r.Header["X-Forwarded-For"] = listed
	r.Header["Forwarded"] = stated
	return ClientKey(r, trustedNets)
}

func TestPeerIsTheClient(t *testing.T) {
	for remote, want := range map[string]string{
		"192.0.2.1:1234":                   "192.0.2.1",
		"192.0.2.1":                        "192.0.2.1",
		"[2001:db8:1:2:3:4:5:6]:1234":      "2001:db8:1:2::/64",
		"2001:db8:1:2::":                   "2001:db8:1:2::/64",
		"[fe80::1%eth0]:1234":              "fe80::/64",
		"[fe80::1%eth1, 10.0.0.1]:1234":    "fe80::/64",
		"[::ffff:192.0.2.1]:1234":          "192.0.2.1",
		"[::ffff:192.0.2.1%eth0]:1234":     "192.0.2.1",
		"[64:ff9b::192.0.2.1]:1234":        "192.0.2.1",
		"[64:ff9b::c000:201%eth0]:1234":    "192.0.2.1",
		"[64:ff9b:1::c000:201]:1234":       "64:ff9b:1::/64",
		"[::1]:1234":                       "::/64",
		"@":                                "@",
		"":                                 "",
		"/run/app.sock":                    "/run/app.sock",
		"192.0.2.1:http":                   "192.0.2.1:http",
		"256.0.0.1:80":                     "256.0.0.1:80",
		"pipe: not an address at all \x00": "pipe: not an address at all \x00",
	} {
		if got := keyOf(remote, []string{"203.0.113.9"}, []string{"for=203.0.113.9"}); got != want {
			t.Errorf("the key of %q is %q, want %q", remote, got, want)
		}
	}
}

func TestForwardedIsBelievedFromTrustedHopsOnly(t *testing.T) {
	const proxy, client, unclear = "10.0.0.2", "203.0.113.9", "10.0.0.2 contradictory"
	for _, tc := range []struct {
		name           string
		listed, stated []string
		want           string
	}{
		{"nothing", nil, nil, proxy},
		{"one hop", []string{client}, nil, client},
		{"the last untrusted hop", []string{"6.6.6.6, " + client}, nil, client},
		{"through a trusted hop", []string{"6.6.6.6, " + client + ", 10.9.9.9"}, nil, client},
		{"through hops of all forms", []string{client + ",\t[2001:db8:ff::1]:80 ,172.16.0.1:80, ::ffff:10.0.0.1"}, nil, client},
		{"trusted to the end", []string{"10.0.0.3, 10.0.0.4"}, nil, "10.0.0.3"},
		{"several lines are one list", []string{"6.6.6.6", client, "10.0.0.4"}, nil, client},
		{"the client's own lines come first", []string{"6.6.6.6", "7.7.7.7, 10.0.0.3", client}, nil, client},
		{"with a port", []string{client + ":4711"}, nil, client},
		{"IPv6 by /64", []string{"2001:db8:1:2::3"}, nil, "2001:db8:1:2::/64"},
		{"IPv4 by NAT64", []string{"64:ff9b::203.0.113.9"}, nil, "203.0.113.9"},
		{"IPv6 in brackets", []string{"[2001:db8:1:2::3]"}, nil, "2001:db8:1:2::/64"},
		{"a zone", []string{"fe80::1%eth0"}, nil, "fe80::/64"},

		{"malformed: the hop before it", []string{"6.6.6.6, what, 10.0.0.4"}, nil, "10.0.0.4"},
		{"malformed at once", []string{"6.6.6.6, what"}, nil, unclear},
		{"empty line", []string{""}, nil, proxy},
		{"empty last element", []string{"6.6.6.6,"}, nil, proxy},
		{"empty last line", []string{"6.6.6.6", " "}, nil, proxy},
		{"commas", []string{",,,,"}, nil, proxy},
		{"leading zeros", []string{"6.6.6.6, 203.0.113.09"}, nil, unclear},
		{"unclosed bracket", []string{"[2001:db8::1"}, nil, unclear},
		{"unclosed bracket, IPv4", []string{"[203.0.113.9"}, nil, unclear},
		{"IPv4 in brackets", []string{"[203.0.113.9]"}, nil, unclear},
		{"a port of letters", []string{client + ":http"}, nil, unclear},
		{"a port too long", []string{client + ":123456"}, nil, unclear},
		{"no port", []string{client + ":"}, nil, unclear},
		{"a quote", []string{`"203.0.113.9"`}, nil, unclear},
		{"unknown", []string{"unknown"}, nil, unclear},

		{"Forwarded", nil, []string{"for=" + client}, client},
		{"Forwarded, in full", nil, []string{`For="203.0.113.9:4711";proto=https;by="_x";host=example.org`}, client},
		{"Forwarded, spaced", nil, []string{"proto=https; for=203.0.113.9 ; host=example.org"}, client},
		{"Forwarded, empty pairs", nil, []string{";;for=203.0.113.9;;"}, client},
		{"Forwarded, IPv6", nil, []string{`for="[2001:db8:1:2::3]"`}, "2001:db8:1:2::/64"},
		{"Forwarded, IPv6 and an obfuscated port", nil, []string{`for="[2001:db8:1:2::3]:_p"`}, "2001:db8:1:2::/64"},
		{"Forwarded, quoted pairs", nil, []string{`for="\2\0\3.0.113.9"`}, client},
		{"Forwarded, port unquoted", nil, []string{"for=203.0.113.9:4711"}, client},
		{"Forwarded, commas and semicolons in quotes", nil, []string{`for=6.6.6.6, for=203.0.113.9;by="a,b;for=6.6.6.6"`}, client},
		{"Forwarded, escaped quotes", nil, []string{`for=203.0.113.9;by="a\",for=6.6.6.6"`}, client},
		{"Forwarded, hops", nil, []string{"for=6.6.6.6, for=203.0.113.9", `for="[2001:db8:ff::1]"`, "for=10.0.0.4"}, client},
		{"Forwarded, unknown", nil, []string{"for=6.6.6.6, for=unknown, for=10.0.0.4"}, "10.0.0.4"},
		{"Forwarded, obfuscated", nil, []string{"for=6.6.6.6, for=_hidden"}, unclear},
		{"Forwarded, no for", nil, []string{"for=6.6.6.6, proto=https"}, proxy},
		{"Forwarded, two for", nil, []string{"for=6.6.6.6;for=203.0.113.9"}, unclear},
		{"Forwarded, two for, one empty", nil, []string{`for="";for=203.0.113.9`}, unclear},
		{"Forwarded, no name", nil, []string{"=203.0.113.9"}, unclear},
		{"Forwarded, no name beside a good pair", nil, []string{"=x;for=203.0.113.9"}, unclear},
		{"Forwarded, a bad name beside a good pair", nil, []string{"a b=x;for=203.0.113.9"}, unclear},
		{"Forwarded, a pair that a quote runs into", nil, []string{`for="203.0.113.9"x=y`}, unclear},
		{"Forwarded, no value", nil, []string{"for=203.0.113.9;proto="}, unclear},
		{"Forwarded, no pair", nil, []string{"203.0.113.9"}, unclear},
		{"Forwarded, a space in a pair", nil, []string{"for =203.0.113.9"}, unclear},
		{"Forwarded, an open quote", nil, []string{`for="203.0.113.9`}, unclear},
		{"Forwarded, text after a quote", nil, []string{`for="203.0.113.9"x`}, unclear},
		{"Forwarded, the client left a quote open", nil, []string{`for=6.6.6.6;x=", for=203.0.113.9`}, client},
		{"Forwarded, and the proxy quotes", nil, []string{`for=6.6.6.6;x=", for="203.0.113.9:80"`}, client},
		{"Forwarded, the client left an escape open", nil, []string{`for="6.6.6.6\`, `for="203.0.113.9"`}, client},

		{"both, of one mind", []string{client}, []string{`for="203.0.113.9:80"`}, client},
		{"both, Forwarded says nothing", []string{client}, []string{"proto=https"}, client},
		{"both, X-Forwarded-For says nothing", []string{""}, []string{"for=" + client}, client},
		{"both, X-Forwarded-For names nobody", []string{"unknown"}, []string{"for=6.6.6.6"}, unclear},
		{"both, Forwarded names nobody", []string{"6.6.6.6"}, []string{"for=_hidden"}, unclear},
		{"both, Forwarded without a host", []string{"6.6.6.6"}, []string{"for=203.0.113.9;host=;proto=http"}, unclear},
		{"both, Forwarded with a long host", []string{"6.6.6.6"}, []string{"for=203.0.113.9;host=" + strings.Repeat("x", maxElement)}, unclear},
		{"both, contradictory", []string{client}, []string{"for=6.6.6.6"}, unclear},
	} {
		if got := keyOf(proxy+":80", tc.listed, tc.stated); got != tc.want {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
}

// TestTrustInIPv6IsNoneInIPv4: though IPv4 can be written as IPv6.
func TestTrustInIPv6IsNoneInIPv4(t *testing.T) {
	r := &http.Request{RemoteAddr: "192.0.2.1:80", Header: http.Header{"X-Forwarded-For": {"6.6.6.6"}}}
	for _, trusted := range []string{"::/0", "::/80"} {
		if got := ClientKey(r, []netip.Prefix{netip.MustParsePrefix(trusted)}); got != "192.0.2.1" {
			t.Errorf("with %s trusted: %q", trusted, got)
		}
	}
}

func TestHugeHeadersAreReadFromTheEnd(t *testing.T) {
	const client = "203.0.113.9"
	for _, junk := range []string{
		strings.Repeat("6.6.6.6,", 1<<17),
		strings.Repeat(",", 1<<20),
		strings.Repeat(`"`, 1<<20+1),
		strings.Repeat(`\"`, 1<<19),
		strings.Repeat("10.0.0.1,", 1<<17),
	} {
		if got := keyOf("10.0.0.2:80", []string{junk + "," + client}, nil); got != client {
			t.Errorf("after %.9q…: %q", junk, got)
		}
		if got := keyOf("10.0.0.2:80", nil, []string{junk + ",for=" + client}); got != client {
			t.Errorf("Forwarded after %.9q…: %q", junk, got)
		}
	}
}

// TestWalksAreBounded: a client of a proxy that writes one header can fill the other
// one with hops.
func TestWalksAreBounded(t *testing.T) {
	const proxy, client = "10.0.0.2", "203.0.113.9"
	hops := func(n int) string { return client + strings.Repeat(",10.0.0.1", n) }
	long := func(n int) string { return "for=" + client + ";x=" + strings.Repeat("y", n-len("for=203.0.113.9;x=")) }
	for _, tc := range []struct {
		name           string
		listed, stated string
		want           string
	}{
		{"as many hops as may be", hops(maxHops - 1), "", client},
		{"one hop more", hops(maxHops), "", "10.0.0.1"},
		{"as long as may be", "", "for=6.6.6.6," + long(maxElement), client},
		{"longer by one", "", "for=6.6.6.6," + long(maxElement+1), proxy + " contradictory"},
		{"alone and longer by one", "", long(maxElement + 1), proxy + " contradictory"},
	} {
		if got := keyOf(proxy+":80", []string{tc.listed}, []string{tc.stated}); got != tc.want {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
}

// FuzzForwarded: a client can't change its key behind a proxy by any header, or take
// another client's.
func FuzzForwarded(f *testing.F) {
	for _, seed := range []string{
		"", ",", "6.6.6.6", "for=6.6.6.6", `for="[2001:db8::1]:80";by="a,b\"`, `for="`, `x="\`, "unknown", "[::1", "::1%z",
		"10.0.0.1,10.0.0.2", "for=10.0.0.1", "\x00\xff",
	} {
		f.Add(seed)
	}
	const proxy, client = "10.0.0.2", "203.0.113.9"
	f.Fuzz(func(t *testing.T, sent string) {
		if got := keyOf(proxy+":80", []string{sent + "," + client}, nil); got != client {
			t.Errorf("X-Forwarded-For: %q", got)
		}
		if got := keyOf(proxy+":80", []string{sent, client}, nil); got != client {
			t.Errorf("X-Forwarded-For in two lines: %q", got)
		}
		if got := keyOf(proxy+":80", nil, []string{sent + ",for=" + client}); got != client {
			t.Errorf("Forwarded: %q", got)
		}
		if got := keyOf(proxy+":80", nil, []string{sent + `,for="203.0.113.9:80";by="x,\"y"`}); got != client {
			t.Errorf("Forwarded with quotes: %q", got)
		}
		if got := keyOf("192.0.2.1:80", []string{sent}, []string{sent}); got != "192.0.2.1" {
			t.Errorf("from one not trusted: %q", got)
		}
		for _, got := range []string{
			keyOf(proxy+":80", []string{client}, []string{sent}),
			keyOf(proxy+":80", []string{sent}, []string{"for=" + client}),
		} {
			if got != client && got != proxy+" contradictory" {
				t.Errorf("beside the header that the proxy writes: %q", got)
			}
		}
		keyOf(proxy+":80", []string{sent}, []string{sent}) // must not panic
		if got := keyOf(sent, nil, nil); got == "" && sent != "" {
			t.Errorf("no key for RemoteAddr %q", sent)
		}
	})
}
