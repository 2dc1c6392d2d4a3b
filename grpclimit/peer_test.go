package grpclimit_test

import (
	"context"
	"net"
	"testing"

	"google.golang.org/grpc/peer"

	"github.com/seed-e56e777b/limiter/grpclimit"
)

// strAddr is what a peer's address is where net/http serves gRPC.
type strAddr string

func (strAddr) Network() string  { return "tcp" }
func (a strAddr) String() string { return string(a) }

func TestPeerAddress(t *testing.T) {
	tcp := func(ip string) net.Addr { return &net.TCPAddr{IP: net.ParseIP(ip), Port: 4242} }
	for name, c := range map[string]struct {
		addr net.Addr
		want string
	}{
		"IPv4 without its port":        {tcp("192.0.2.7"), "192.0.2.7"},
		"IPv4 in IPv6 is IPv4":         {tcp("::ffff:192.0.2.7"), "192.0.2.7"},
		"IPv6 by its /64":              {tcp("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::/64"},
		"IPv6 of a zone, without it":   {&net.TCPAddr{IP: net.ParseIP("fe80::1"), Zone: "eth0"}, "fe80::/64"},
		"another network's, as it is":  {&net.UnixAddr{Net: "unix", Name: "/run/app.sock"}, "/run/app.sock"},
		"a peer that has no address":   {nil, ""},
		"text: IPv4":                   {strAddr("192.0.2.7:4242"), "192.0.2.7"},
		"text: IPv4 in IPv6":           {strAddr("[::ffff:192.0.2.7]:4242"), "192.0.2.7"},
		"IPv4 by NAT64":                {tcp("64:ff9b::c000:201"), "192.0.2.1"},
		"IPv4 by NAT64, of a zone":     {&net.TCPAddr{IP: net.ParseIP("64:ff9b::c000:201"), Zone: "eth0"}, "192.0.2.1"},
		"text: IPv4 by NAT64":          {strAddr("[64:ff9b::192.0.2.1]:4242"), "192.0.2.1"},
		"text: IPv6":                   {strAddr("[2001:db8:1:2::3]:4242"), "2001:db8:1:2::/64"},
		"text: IPv6 of a zone":         {strAddr("[fe80::1%eth0]:4242"), "fe80::/64"},
		"text: no port":                {strAddr("2001:db8:1:2::3"), "2001:db8:1:2::/64"},
		"text: no IP address":          {strAddr("pipe"), "pipe"},
		"UDP":                          {&net.UDPAddr{IP: net.ParseIP("192.0.2.7"), Port: 4242}, "192.0.2.7"},
		"IPv6 that shares a /64 is it": {tcp("2001:db8:1:2:ffff::1"), "2001:db8:1:2::/64"},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := peer.NewContext(context.Background(), &peer.Peer{Addr: c.addr})
			if got := grpclimit.PeerAddress(ctx); got != c.want {
				t.Errorf("PeerAddress = %q, want %q", got, c.want)
			}
		})
	}
	if got := grpclimit.PeerAddress(t.Context()); got != "" {
		t.Errorf("PeerAddress without a peer = %q, want none", got)
	}
}
