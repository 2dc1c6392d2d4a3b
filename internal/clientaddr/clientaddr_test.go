package clientaddr

import (
	"net/netip"
	"testing"
)

func TestInner(t *testing.T) {
	for text, want := range map[string]string{
		"192.0.2.1":                "192.0.2.1",
		"::ffff:192.0.2.1":         "192.0.2.1",
		"::ffff:192.0.2.1%eth0":    "192.0.2.1",
		"64:ff9b::192.0.2.1":       "192.0.2.1",
		"64:ff9b::c000:201%eth0":   "192.0.2.1",
		"64:ff9b::":                "0.0.0.0",
		"64:ff9b::1:c000:201":      "64:ff9b::1:c000:201",
		"64:ff9b:1::c000:201":      "64:ff9b:1::c000:201", // of RFC 8215, whose length is not known
		"2001:db8::ffff:c000:201":  "2001:db8::ffff:c000:201",
		"::192.0.2.1":              "::c000:201",
		"fe80::64:ff9b:0:201%eth0": "fe80::64:ff9b:0:201",
	} {
		if got := Inner(netip.MustParseAddr(text)); got != netip.MustParseAddr(want) {
			t.Errorf("%s: %v, want %s", text, got, want)
		}
	}
	if got := Inner(netip.Addr{}); got.IsValid() {
		t.Errorf("of no address: %v", got)
	}
}
