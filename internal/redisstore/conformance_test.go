package redisstore

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/seed-e56e777b/limiter/internal/exchange"
	"github.com/seed-e56e777b/limiter/internal/exchange/exchangetest"
	"github.com/seed-e56e777b/limiter/internal/servertest/redisserver"
)

// The scripts and Memory get the same schedules and must give the same answers.

// Redis has its own time, so Memory gets the time of Redis's replies.
func TestMemoryIsAsRedis(t *testing.T) {
	t.Parallel()
	_, real := newReal(t, redisserver.Options{})
	rapid.Check(t, func(rt *rapid.T) {
		client, now := New(real.rdb, freshPrefix()), int64(0)
		memory := exchange.NewMemory(client.Partitions(), func() time.Time { return time.UnixMicro(now) })
		s := exchangetest.Schedule{}
		for range rapid.IntRange(1, 40).Draw(rt, "steps") {
			if rapid.IntRange(0, 4).Draw(rt, "kind") == 0 {
				f := s.Fleet(rt)
				g := f
				client.Exchange(t.Context(), &f, nil)
				now = f.Reply.Now
				memory.Exchange(t.Context(), &g, nil)
				exchangetest.SameFleet(rt, f, g)
				continue
			}
			c := s.Chunk(rt)
			d := *c
			client.Exchange(t.Context(), nil, []*exchange.Chunk{c})
			now = c.Reply.Now
			memory.Exchange(t.Context(), nil, []*exchange.Chunk{&d})
			exchangetest.SameChunk(rt, c, &d)
		}
	})
}

// A Redis that is told the time: leaps, days, and a clock that goes back. The lab has
// the same of its miniredis.
func TestMemoryIsAsRedisToldTheTime(t *testing.T) {
	t.Parallel()
	for name, head := range map[string]string{"redis": "", "plain Lua": withoutStruct} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, _ := newTold(t, head)
			exchangetest.Compare(t, exchangetest.Server{
				Client: func() exchangetest.Client { return server.client(freshPrefix()) }, Set: server.set,
			})
		})
	}
}
