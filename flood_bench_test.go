package limiter

import (
	"fmt"
	"testing"
)

// BenchmarkFlood is what a fresh key costs that takes another's place, without
// Redis, with it, and while it is down: the queue of what evicted keys have not
// told is full then.
func BenchmarkFlood(b *testing.B) {
	for _, maxKeys := range []int{1 << 10, 1 << 14, 1 << 18} {
		for _, way := range []fault{redisAbsent, redisUp, redisDown} {
			b.Run(fmt.Sprintf("MaxKeys=%d/%s", maxKeys, way), func(b *testing.B) {
				cfg := Config{Limit: many, MaxKeys: maxKeys}
				l := benchLocal(b, cfg)
				if way != redisAbsent {
					f := newFleet(b, 1, cfg)
					b.Cleanup(f.close)
					l = f.members[0].Limiter
					f.down.Store(way == redisDown)
				}
				keys := benchKeys(3*maxKeys + 1<<16)
				for _, k := range keys[:3*maxKeys] {
					l.Allow(k)
				}
				b.ReportAllocs()
				i := 0
				for b.Loop() {
					l.Allow(keys[i%len(keys)])
					i++
				}
			})
		}
	}
}
