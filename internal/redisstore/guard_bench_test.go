package redisstore

import (
	"strings"
	"testing"
)

// BenchmarkGuard measures the cost of the guard for a reply: of a chunk of 128 keys, of a
// fleet call with all its news, and the most costly one, with a line per value.
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
