// Package exchangetest shows two stores of the shared state the same schedules, and
// compares their answers: the scripts on a server, and the store in memory.
package exchangetest

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/seed-e56e777b/limiter/internal/exchange"
)

// Epoch is when the clock of Compare begins, in microseconds.
const Epoch = 1_800_000_000_000_000

// Client is a client of the server.
type Client interface {
	exchange.Exchanger
	Partitions() int
}

// Server is a server whose clock can be set.
type Server struct {
	Client func() Client      // returns a client of a prefix that is new
	Set    func(micros int64) // sets the clock
	Back   func(bool)         // is told whether the clock may go back from here on; may be nil
}

// Compare fails the test if the scripts on a server and the store in memory differ on
// any schedule. The clock leaps, by days too, or goes back.
func Compare(t *testing.T, server Server) {
	rapid.Check(t, func(rt *rapid.T) {
		client, now := server.Client(), int64(Epoch)
		memory := exchange.NewMemory(client.Partitions(), func() time.Time { return time.UnixMicro(now) })
		leaps, back := leapsForth, rapid.Bool().Draw(rt, "clock goes back")
		if back {
			leaps = leapsBoth
		}
		if server.Back != nil {
			server.Back(back)
		}
		s := Schedule{}
		for range rapid.IntRange(1, 15).Draw(rt, "steps") {
			now += rapid.SampledFrom(leaps).Draw(rt, "leap").Microseconds()
			server.Set(now)
			f, c := s.Fleet(rt), s.Chunk(rt)
			g, d := f, *c
			client.Exchange(t.Context(), &f, []*exchange.Chunk{c})
			memory.Exchange(t.Context(), &g, []*exchange.Chunk{&d})
			SameChunk(rt, c, &d)
			SameFleet(rt, f, g)
		}
	})
}

const (
	second       = 1_000_000      // microseconds
	maxSpan      = 1 << 51        // the largest amount that is sent
	keepSequence = 24 * time.Hour // how long a sequence number is kept
	newsPage     = 16             // news on a page
)

var (
	leapsForth = []time.Duration{
		0, time.Microsecond, time.Millisecond, 100 * time.Millisecond, 999 * time.Millisecond,
		exchange.KeepState, exchange.KeepState + time.Microsecond, time.Hour, keepSequence, keepSequence + time.Microsecond,
	}
	leapsBoth = []time.Duration{
		-time.Hour, -time.Second, -time.Microsecond, 0, time.Millisecond, time.Second, 5 * time.Second,
	}
)

// Schedule draws chunks and fleet calls, mostly in order.
type Schedule struct{ seqs map[exchange.ID]int64 }

var fields = []string{"k", "ka", "kb", "kc", "d\x00\x01\xff", "k\x00m", "k{f}", "k\n\r\n", "k\xc3\x28", "k" + string(make([]byte, 64))}

var amounts = []int64{0, 0, 1, 999, 100_000, 1_000_000, 70_000_000, maxSpan, maxSpan + 1, math.MaxInt64, -1, math.MinInt64}

var someLimits = []exchange.Limit{
	{Full: second, Burst: 10},
	{Full: second, Burst: 10},
	{Full: second, Burst: 10},
	{Full: 3600 * second, Burst: 10},
	{Full: second / 3, Burst: 100},
	{Full: 1, Burst: 1},
	{},
	{Full: 0, Burst: 5},
	{Full: 5, Burst: 0},
	{Full: -1, Burst: 3},
	{Full: maxSpan, Burst: 1},
	{Full: 1, Burst: maxSpan},
	{Full: math.MaxInt64, Burst: math.MaxInt64},
	{Full: math.MinInt64, Burst: 7},
}

var durations = []time.Duration{-1, 0, 1, time.Millisecond, 500 * time.Millisecond, time.Hour, math.MaxInt64, math.MinInt64}

// Chunk draws the next chunk.
func (s *Schedule) Chunk(t *rapid.T) *exchange.Chunk {
	if s.seqs == nil {
		s.seqs = map[exchange.ID]int64{}
	}
	amount, limits := rapid.SampledFrom(amounts), rapid.SampledFrom(someLimits)
	c := &exchange.Chunk{
		ID:     exchange.ID{0: rapid.Byte().Draw(t, "process") % 3, 8: rapid.Byte().Draw(t, "lane") % 2},
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

// Fleet draws the next fleet call.
func (s *Schedule) Fleet(t *rapid.T) exchange.FleetCall {
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
		Degraded: rapid.IntRange(0, 2).Draw(t, "degraded") == 0,
		Received: rapid.SampledFrom([]int64{0, 1, 3, 16, 70, 300, 600, -1, math.MaxInt64}).Draw(t, "heard"),
	}
	for range rapid.SampledFrom([]int{0, 0, 1, 2, newsPage - 1, exchange.MaxAnnounced}).Draw(t, "news") {
		kind := rapid.IntRange(0, 3).Draw(t, "kind")
		f.Announce = append(f.Announce, exchange.News{
			Field:  rapid.SampledFrom(fields).Draw(t, "field"),
			Reset:  kind <= 1,
			Held:   kind == 2,
			ToGo:   amount.Draw(t, "to go"),
			Demand: amount.Draw(t, "demand"),
			Limit:  limits.Draw(t, "limit"),
		})
	}
	return f
}

// SameChunk fails the test if two answers to a chunk differ.
func SameChunk(t require.TestingT, script, memory *exchange.Chunk) {
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

// SameFleet fails the test if two answers to a fleet call differ.
func SameFleet(t require.TestingT, script, memory exchange.FleetCall) {
	require.NoError(t, script.Err)
	require.NoError(t, memory.Err)
	require.Equal(t, script.Reply, memory.Reply)
}
