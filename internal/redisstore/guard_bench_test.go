package redisstore

import (
	"strings"
	"testing"
)

// BenchmarkGuard measures what following a reply costs: a chunk's of 128 keys,
// a fleet call's with all its news, and the most costly, values of a line each.
func BenchmarkGuard(b *testing.B) {
	for name, says := range map[string]string{
		"chunk": "$2065\r\n" + strings.Repeat("x", 2065) + "\r\n",
		"fleet": "$17521\r\n" + strings.Repeat("x", 17521) + "\r\n",
		"lines": "*170\r\n" + strings.Repeat(":123\r\n", 170),
	} {
		b.Run(name, func(b *testing.B) {
			var s stream
			p := []byte(says)
			b.SetBytes(int64(len(p)))
			for b.Loop() {
				if _, err := s.follow(p); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
