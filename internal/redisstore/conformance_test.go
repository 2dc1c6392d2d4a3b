package redisstore

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/seed-e56e777b/limiter/internal/exchange"
	"github.com/seed-e56e777b/limiter/internal/servertest/redisserver"
)

// The scripts and Memory get the same schedules and must give the same answers.

// Redis has its own time, so Memory gets the time of Redis's replies.
func TestMemoryIsAsRedis(t *testing.T) {
	t.Parallel()
	_, client := newReal(t, redisserver.Options{})
	rapid.Check(t, func(rt *rapid.T) {
		client := New(client.rdb, freshPrefix())
		tw := newTwin(client.Partitions())
		s := schedule{}
		for range rapid.IntRange(1, 40).Draw(rt, "steps") {
			if rapid.IntRange(0, 4).Draw(rt, "kind") == 0 {
				f := s.fleet(rt)
				g := f
				client.Exchange(t.Context(), &f, nil)
				tw.time = f.Reply.Now
				tw.Exchange(t.Context(), &g, nil)
				sameFleet(rt, f, g)
				continue
			}
			c := s.chunk(rt)
			d := *c
			client.Exchange(t.Context(), nil, []*exchange.Chunk{c})
			tw.time = c.Reply.Now
			tw.Exchange(t.Context(), nil, []*exchange.Chunk{&d})
			sameChunk(rt, c, &d)
		}
	})
}

// miniredis has a settable clock: leaps, days, and a clock that goes back.
func TestMemoryIsAsMiniredis(t *testing.T) {
	t.Parallel()
	server, client := newMini(t)
	rapid.Check(t, func(rt *rapid.T) {
		client := New(client.rdb, freshPrefix())
		tw := newTwin(client.Partitions())
		leaps := leapsForth
		back := rapid.Bool().Draw(rt, "clock goes back")
		if back {
			leaps = leapsBoth
		}
		server.ClockTTL(!back) // by a clock that goes back it would let everything expire
		s := schedule{}
		for range rapid.IntRange(1, 15).Draw(rt, "steps") {
			tw.time += rapid.SampledFrom(leaps).Draw(rt, "leap").Microseconds()
			server.SetTime(time.UnixMicro(tw.time))
			f, c := s.fleet(rt), s.chunk(rt)
			g, d := f, *c
			client.Exchange(t.Context(), &f, []*exchange.Chunk{c})
			tw.Exchange(t.Context(), &g, []*exchange.Chunk{&d})
			sameChunk(rt, c, &d)
			sameFleet(rt, f, g)
		}
	})
}

var (
	leapsForth = []time.Duration{
		0, time.Microsecond, time.Millisecond, 100 * time.Millisecond, 999 * time.Millisecond,
		exchange.KeepState, exchange.KeepState + time.Microsecond, time.Hour, keepSequence, keepSequence + time.Microsecond,
	}
	leapsBoth = []time.Duration{
		-time.Hour, -time.Second, -time.Microsecond, 0, time.Millisecond, time.Second, 5 * time.Second,
	}
)

// schedule draws chunks and fleet calls, mostly in order.
type schedule struct{ seqs map[exchange.ID]int64 }

var fields = []string{"k", "ka", "kb", "kc", "d\x00\x01\xff", "k\x00m", "k{f}", "k\n\r\n", "k\xc3\x28", "k" + string(make([]byte, 64))}

var amounts = []int64{0, 0, 1, 999, 100_000, 1_000_000, 70_000_000, exchange.MaxSpan, exchange.MaxSpan + 1, math.MaxInt64, -1, math.MinInt64}

var someLimits = []exchange.Limit{
	lim(second, 10),
	lim(second, 10),
	lim(second, 10),
	lim(3600*second, 10),
	lim(second/3, 100),
	lim(1, 1),
	{},
	lim(0, 5),
	lim(5, 0),
	lim(-1, 3),
	lim(exchange.MaxSpan, 1),
	lim(1, exchange.MaxSpan),
	lim(math.MaxInt64, math.MaxInt64),
	lim(math.MinInt64, 7),
}

var durations = []time.Duration{-1, 0, 1, time.Millisecond, 500 * time.Millisecond, time.Hour, math.MaxInt64, math.MinInt64}

func (s *schedule) chunk(t *rapid.T) *exchange.Chunk {
	if s.seqs == nil {
		s.seqs = map[exchange.ID]int64{}
	}
	amount, limits := rapid.SampledFrom(amounts), rapid.SampledFrom(someLimits)
	c := &exchange.Chunk{
		ID:     id(rapid.Byte().Draw(t, "process")%3, rapid.Byte().Draw(t, "lane")%2),
		Tau:    rapid.SampledFrom(durations).Draw(t, "tau"),
		Floors: rapid.IntRange(0, 3).Draw(t, "floors") == 0,
		Leave:  rapid.IntRange(0, 9).Draw(t, "leave") == 0,
	}
	c.Partition = int(c.ID[0]) % 2 // two processes share one
	s.seqs[c.ID]++
	c.Seq = s.seqs[c.ID] + rapid.SampledFrom([]int64{0, 0, 0, 0, 0, -1, 2, -100}).Draw(t, "seq")
	for range rapid.IntRange(0, 8).Draw(t, "records") {
		c.Records = append(c.Records, exchange.Record{
			Field:    rapid.SampledFrom(fields).Draw(t, "field"),
			Op:       rapid.SampledFrom([]exchange.Op{exchange.Charge, exchange.Charge, exchange.Charge, exchange.Late, exchange.Late, exchange.Refund, exchange.Reset}).Draw(t, "op"),
			Left:     rapid.SampledFrom([]uint8{0, 0, 1, 128, 255}).Draw(t, "left"),
			Delta:    amount.Draw(t, "delta"),
			Attempts: amount.Draw(t, "attempts"),
			Age:      amount.Draw(t, "age"),
			Ceiling:  amount.Draw(t, "ceiling"),
			Limit:    limits.Draw(t, "limit"),
			Floor:    amount.Draw(t, "floor"),
		})
	}
	return c
}

func (s *schedule) fleet(t *rapid.T) exchange.FleetCall {
	duration, amount, limits := rapid.SampledFrom(durations), rapid.SampledFrom(amounts), rapid.SampledFrom(someLimits)
	f := exchange.FleetCall{
		Process:  [8]byte{rapid.Byte().Draw(t, "member") % 5},
		Silent:   duration.Draw(t, "silent"),
		Forget:   duration.Draw(t, "forget"),
		Remember: duration.Draw(t, "remember"),
		Interval: duration.Draw(t, "interval"),
		Age:      duration.Draw(t, "age"),
		Limit:    limits.Draw(t, "own limit"),
		Leave:    rapid.IntRange(0, 5).Draw(t, "leave") == 0,
		Received: rapid.SampledFrom([]int64{0, 1, 3, 16, 70, 300, 600, -1, math.MaxInt64}).Draw(t, "heard"),
	}
	for range rapid.SampledFrom([]int{0, 0, 1, 2, newsPage - 1, exchange.MaxAnnounced}).Draw(t, "news") {
		f.Announce = append(f.Announce, exchange.News{
			Field:  rapid.SampledFrom(fields).Draw(t, "field"),
			Reset:  rapid.Bool().Draw(t, "reset"),
			ToGo:   amount.Draw(t, "to go"),
			Demand: amount.Draw(t, "demand"),
			Limit:  limits.Draw(t, "limit"),
		})
	}
	return f
}

func sameChunk(t require.TestingT, script, memory *exchange.Chunk) {
	require.NoError(t, script.Err)
	require.NoError(t, memory.Err)
	a, b := script.Reply, memory.Reply
	a.Wait = 0 // Memory has no sweep that needs a call
	a.Keys, b.Keys = slices.Clone(a.Keys), slices.Clone(b.Keys)
	require.Len(t, a.Keys, len(b.Keys))
	for i := range a.Keys {
		// exp of the C library and of Go may differ in the last bit.
		require.InDelta(t, a.Keys[i].Demand, b.Keys[i].Demand, 1)
		a.Keys[i].Demand, b.Keys[i].Demand = 0, 0
	}
	require.Equal(t, a, b)
}

func sameFleet(t require.TestingT, script, memory exchange.FleetCall) {
	require.NoError(t, script.Err)
	require.NoError(t, memory.Err)
	require.Equal(t, script.Reply, memory.Reply)
}
