package delivery

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-e56e777b/limiter/internal/exchange"
	"github.com/seed-e56e777b/limiter/internal/mono"
)

const (
	sec   = mono.Time(time.Second)
	limit = 300 * time.Millisecond
)

var errGone = errors.New("gone")

// newCourier returns a courier whose fleet key has answered at the first second.
func newCourier(t *testing.T) *Courier[string] {
	t.Helper()
	c := New[string](4, [8]byte{1}, time.Second/2, rand.New(rand.NewPCG(1, 1)))
	require.True(t, c.ProbeDue(sec))
	require.False(t, c.AnyUsable())
	b := c.Probe(sec, &exchange.FleetCall{})
	require.NotNil(t, b.Fleet)
	require.Empty(t, b.Chunks, "nothing was ever sent to a partition")
	res := c.Finish(b, sec)
	require.True(t, res.Back)
	c.UpdateStaleness(sec, limit)
	require.True(t, c.AnyUsable())
	return c
}

func put(c *Courier[string], part int, cargo string, now mono.Time) {
	c.Room(part, now).Append(exchange.Record{Field: "k" + cargo, Attempts: 1000}, Span{Begin: now, Late: math.MaxInt64, Empty: math.MaxInt64}, cargo)
}

func fail(b *Batch[string]) *Batch[string] {
	for _, chunk := range b.Chunks {
		chunk.Err = errGone
	}
	if b.Fleet != nil {
		b.Fleet.Err = errGone
	}
	return b
}

// answer sets the replies of the shared state.
func answer(b *Batch[string], status exchange.Status, now mono.Time) *Batch[string] {
	for _, chunk := range b.Chunks {
		chunk.Err = nil
		chunk.Reply = exchange.Reply{Status: status, Now: int64(now / 1000), Prev: chunk.Seq - 1, Keys: make([]exchange.KeyState, len(chunk.Records))}
	}
	return b
}

func TestReportStaysUntilAnswered(t *testing.T) {
	c := newCourier(t)
	put(c, 0, "a", sec)
	b := c.Round(sec, nil)
	first := b.Chunks[0]
	require.EqualValues(t, 1, first.Seq)
	put(c, 0, "b", sec)
	require.NotEqual(t, first.ID, c.Room(0, sec).ID, "a second report while the first is under way has a lane of its own")

	res := c.Finish(fail(b), sec)
	require.Equal(t, Failed, res.Outcomes[0].Fate)
	require.False(t, c.Usable(0))
	require.True(t, c.Usable(1))
	require.Empty(t, c.Round(2*sec, nil).Chunks, "what failed is for probes")

	require.False(t, c.ProbeDue(sec+sec/20), "there is a back-off")
	require.True(t, c.ProbeDue(2*sec))
	b = c.Probe(2*sec, nil)
	require.Same(t, first, b.Chunks[0], "sent again as it was")
	require.EqualValues(t, sec/1000, first.Records[0].Age)
	require.EqualValues(t, 135, first.Records[0].Attempts, "two time constants late")

	res = c.Finish(answer(b, exchange.Duplicate, 2*sec), 2*sec)
	require.Equal(t, Delivered, res.Outcomes[0].Fate)
	require.Equal(t, []string{"a"}, res.Outcomes[0].Cargo)
	require.False(t, c.Failing())

	b = c.Round(3*sec, nil)
	require.Len(t, b.Chunks, 1)
	c.Finish(answer(b, exchange.Applied, 3*sec), 3*sec)
	put(c, 0, "c", 3*sec)
	require.EqualValues(t, 2, c.Round(3*sec, nil).Chunks[0].Seq)
}

func TestLostStateIsSeen(t *testing.T) {
	c := newCourier(t)
	put(c, 2, "a", sec)
	res := c.Finish(answer(c.Round(sec, nil), exchange.Lost, sec), sec)
	require.Equal(t, Refused, res.Outcomes[0].Fate)
	require.True(t, res.Outcomes[0].Lost)
	b := c.Round(sec, nil)
	require.True(t, b.Chunks[0].Floors, "sent again at once, with floors")
	res.Outcomes[0].Floor(0, sec-sec/2)
	res = c.Finish(fail(b), sec)
	b = c.Probe(2*sec, nil)
	require.EqualValues(t, -sec/1000*3/2, b.Chunks[0].Records[0].Floor, "an instant, and it may have passed")
	res = c.Finish(answer(b, exchange.Applied, sec), sec)
	require.False(t, res.Outcomes[0].Lost)

	put(c, 2, "b", 2*sec)
	res = c.Finish(answer(c.Round(2*sec, nil), exchange.Applied, 4*sec), 2*sec)
	require.Equal(t, Delivered, res.Outcomes[0].Fate)
	require.True(t, res.Outcomes[0].Lost, "a clock two seconds ahead of ours")
}

func TestStalePartitions(t *testing.T) {
	c := newCourier(t)
	put(c, 0, "a", sec)
	put(c, 1, "b", sec)
	hung := c.Round(sec, &exchange.FleetCall{})
	c.UpdateStaleness(sec.Add(limit), limit)
	require.True(t, c.Usable(0), "not yet overdue")
	c.UpdateStaleness(sec.Add(limit)+1, limit)
	for i, what := range []string{"under way for too long", "the same", "no answer, and none from the fleet's key", "the same"} {
		require.True(t, c.Stale(i), what)
	}
	require.False(t, c.ProbeDue(2*sec), "what hangs has not failed")
	c.Finish(answer(hung, exchange.Applied, 2*sec), 2*sec)
	c.UpdateStaleness(9*sec, limit)
	require.True(t, c.Usable(3), "never stale because nothing was due")
}

// TestCallsOfOnePartitionEndOneByOne: that a probe has ended is no answer to the report that
// hangs beside it.
func TestCallsOfOnePartitionEndOneByOne(t *testing.T) {
	c := newCourier(t)
	put(c, 0, "a", sec)
	first := c.Round(sec, nil)
	put(c, 0, "b", 2*sec)
	hung := c.Round(2*sec, nil)
	require.Len(t, hung.Chunks, 1)
	c.Finish(answer(first, exchange.Applied, 2*sec), 2*sec)
	c.UpdateStaleness((2 * sec).Add(limit), limit)
	require.True(t, c.Usable(0))
	c.UpdateStaleness((2*sec).Add(limit)+1, limit)
	require.True(t, c.Stale(0))
	c.Finish(answer(hung, exchange.Applied, 3*sec), 3*sec)
	c.UpdateStaleness(9*sec, limit)
	require.True(t, c.Usable(0))
}

func TestBackoffGrowsAndEnds(t *testing.T) {
	c := newCourier(t)
	now := sec
	put(c, 0, "a", now)
	c.Finish(fail(c.Round(now, &exchange.FleetCall{})), now)
	for _, want := range []time.Duration{100, 200, 400, 500, 500} {
		begin := now
		for !c.ProbeDue(now) {
			now += sec / 1000
		}
		if d := now.Sub(begin); d < want*time.Millisecond*8/10 || d > want*time.Millisecond*12/10+time.Millisecond {
			t.Errorf("back-off of %v, want about %d ms", d, want)
		}
		c.Finish(fail(c.Probe(now, &exchange.FleetCall{})), now)
	}
	c.ProbeNow()
	require.True(t, c.ProbeDue(now))
	c.Finish(answer(c.Probe(now, &exchange.FleetCall{}), exchange.Applied, now), now)
	require.False(t, c.Failing())
}

func TestLanesAreBounded(t *testing.T) {
	c := newCourier(t)
	for range maxLanes * exchange.MaxRecords {
		put(c, 0, "x", sec)
	}
	require.Nil(t, c.Room(0, sec))
	b := c.Round(sec, nil)
	require.Len(t, b.Chunks, maxLanes)
	ids := map[exchange.ID]bool{}
	for _, chunk := range b.Chunks {
		ids[chunk.ID] = true
		require.Len(t, chunk.Records, exchange.MaxRecords)
	}
	require.Len(t, ids, maxLanes)
}

func TestQuietPartitionsAreKeptAlive(t *testing.T) {
	c := newCourier(t)
	put(c, 0, "a", sec)
	c.Finish(answer(c.Round(sec, nil), exchange.Applied, sec), sec)
	require.Empty(t, c.Round(sec.Add(keepAlive), nil).Chunks)
	b := c.Round(sec.Add(keepAlive)+1, nil)
	require.Len(t, b.Chunks, 1)
	require.Empty(t, b.Chunks[0].Records)
}

// TestReportsUseTheirMemoryAgain: a round's garbage does not grow with its keys, and
// nothing of a report comes back in the next.
func TestReportsUseTheirMemoryAgain(t *testing.T) {
	c := newCourier(t)
	now := sec
	round := func(records int) *exchange.Chunk {
		for range records {
			c.Room(0, now).Append(exchange.Record{Field: "ka"}, Span{Begin: now, Late: math.MaxInt64, Empty: math.MaxInt64}, "a")
		}
		b := c.Round(now, nil)
		c.Finish(answer(b, exchange.Applied, now), now)
		return b.Chunks[0]
	}
	chunk := round(exchange.MaxRecords)
	many := testing.AllocsPerRun(100, func() { round(exchange.MaxRecords) })
	require.InDelta(t, testing.AllocsPerRun(100, func() { round(1) }), many, 1)

	put(c, 0, "a", now)
	c.Room(0, now).Floor(0, now+sec)
	c.Finish(fail(c.Round(now, nil)), now)
	now += sec
	require.Equal(t, Delivered, c.Finish(answer(c.Probe(now, nil), exchange.Duplicate, now), now).Outcomes[0].Fate)
	r := c.Room(0, now)
	require.Same(t, chunk, &r.Chunk)
	require.Equal(t, chunk.Seq, r.Seq)
	require.Empty(t, r.Records)
	require.Empty(t, r.Cargo)
	require.Empty(t, r.Reply.Keys)
	require.False(t, r.Floors)
	require.Equal(t, exchange.Applied, r.Reply.Status)
	r.Append(exchange.Record{Field: "kb", Attempts: 1000}, Span{Begin: now, Late: math.MaxInt64, Empty: math.MaxInt64}, "b")
	require.Zero(t, c.Round(now+sec, nil).Chunks[0].Records[0].Floor)
}

// TestMemoryOfARushIsNotKept: a lane that was not used for long begins anew.
func TestMemoryOfARushIsNotKept(t *testing.T) {
	c := newCourier(t)
	put(c, 0, "a", sec)
	rush := c.Round(sec, nil)
	c.Finish(answer(rush, exchange.Applied, sec), sec)
	later := c.Round(sec.Add(keepAlive)+1, nil)
	require.NotSame(t, rush.Chunks[0], later.Chunks[0])
	require.Zero(t, cap(later.Chunks[0].Records))
}

func TestOldReportsAreGivenUp(t *testing.T) {
	c := newCourier(t)
	put(c, 0, "a", sec)
	c.Finish(fail(c.Round(sec, nil)), sec)
	now := sec.Add(forget)
	require.Equal(t, Failed, c.Finish(fail(c.Probe(now, nil)), now).Outcomes[0].Fate)
	now += 2 * sec
	require.Equal(t, GivenUp, c.Finish(fail(c.Probe(now, nil)), now).Outcomes[0].Fate)
	b := c.Probe(now+sec, nil)
	require.Empty(t, b.Chunks[0].Records, "the next probe is empty")
}

func TestLeaveForgetsNumbers(t *testing.T) {
	c := newCourier(t)
	put(c, 0, "a", sec)
	put(c, 3, "b", sec)
	c.Finish(answer(c.Round(sec, nil), exchange.Applied, sec), sec)
	b := c.Leave(2*sec, &exchange.FleetCall{})
	require.True(t, b.Fleet.Leave)
	require.Len(t, b.Chunks, 2)
	for _, chunk := range b.Chunks {
		require.True(t, chunk.Leave)
	}
}

// TestNonsenseIsNoAnswer: an impossible reply is a failure, after which the report is
// retried with back-off, not in a loop.
func TestNonsenseIsNoAnswer(t *testing.T) {
	c := newCourier(t)
	put(c, 2, "a", sec)
	c.Finish(answer(c.Round(sec, nil), exchange.Lost, sec), sec)
	b := c.Round(sec, nil)
	require.True(t, b.Chunks[0].Floors)
	res := c.Finish(answer(b, exchange.Lost, sec), sec)
	require.Equal(t, Failed, res.Outcomes[0].Fate, "floors are never refused")
	require.ErrorIs(t, res.Err, errLost)
	require.False(t, c.Usable(2))

	c = newCourier(t)
	put(c, 2, "a", sec)
	b = c.Round(sec, nil)
	answer(b, exchange.Duplicate, sec)
	chunk := b.Chunks[0]
	before := chunk.ID
	chunk.Reply.Prev = chunk.Seq + 1
	res = c.Finish(b, sec)
	require.Equal(t, Failed, res.Outcomes[0].Fate, "this number was never given")
	require.ErrorIs(t, res.Err, errNumber)
	b = c.Probe(2*sec, nil)
	require.Same(t, chunk, b.Chunks[0])
	require.NotEqual(t, before, chunk.ID, "under a name that nobody has written to")
	require.EqualValues(t, 1, chunk.Seq)
	require.Equal(t, Delivered, c.Finish(answer(b, exchange.Applied, 2*sec), 2*sec).Outcomes[0].Fate)
	put(c, 2, "c", 3*sec)
	require.EqualValues(t, 2, c.Round(3*sec, nil).Chunks[0].Seq)
}

// TestClockThatJumpsIsALoss: a clock of the state that gains on ours by more
// than a second is another's, also where the last batch had several reports
// for it.
func TestClockThatJumpsIsALoss(t *testing.T) {
	const hour = 3600 * sec
	for _, reports := range []int{1, 2} {
		c := newCourier(t)
		for range exchange.MaxRecords*(reports-1) + 1 {
			put(c, 0, "a", hour)
		}
		b := c.Round(hour, nil)
		require.Len(t, b.Chunks, reports)
		for _, out := range c.Finish(answer(b, exchange.Applied, hour), hour).Outcomes {
			require.False(t, out.Lost)
		}
		put(c, 0, "a", hour+sec)
		res := c.Finish(answer(c.Round(hour+sec, nil), exchange.Applied, hour+11*sec), hour+sec)
		require.True(t, res.Outcomes[0].Lost, "ten seconds ahead after %d reports", reports)
	}
}

// TestExpiryIsNoLoss: a partition expires a minute after its last bucket is full, with
// the numbers of its lanes. Later reports are applied at once, and nothing counts as
// lost, unless it was gone earlier.
func TestExpiryIsNoLoss(t *testing.T) {
	for name, tc := range map[string]struct {
		at   mono.Time // when the lane's number is gone
		lost bool
	}{"expired": {70 * sec, false}, "gone before": {30 * sec, true}} {
		t.Run(name, func(t *testing.T) {
			c := newCourier(t)
			both := func(now mono.Time, prev int64, expires mono.Time, status exchange.Status) (lost []bool) {
				var calls []*Batch[string]
				for range 2 { // the second in a lane of its own
					put(c, 0, "a", now)
					calls = append(calls, c.Round(now, nil))
				}
				for _, b := range calls {
					chunk := b.Chunks[0]
					require.Equal(t, prev == 0 && status == exchange.Applied && now > sec, chunk.Floors, "applied, whatever its number is")
					answer(b, status, now)
					chunk.Reply.Prev, chunk.Reply.Expires = min(prev, chunk.Seq-1), int64(expires/1000)
					lost = append(lost, c.Finish(b, now).Outcomes[0].Lost)
				}
				return lost
			}
			require.Equal(t, []bool{false, false}, both(sec, 1, 61*sec, exchange.Applied))
			status := exchange.Applied
			if tc.lost {
				status = exchange.Lost
			}
			require.Equal(t, []bool{tc.lost, tc.lost}, both(tc.at, 0, tc.at+60*sec, status))
		})
	}
}

// TestSomebodyCallsForWhatIsOver: after the time that the reply gives, as often as that
// for the whole fleet.
func TestSomebodyCallsForWhatIsOver(t *testing.T) {
	const members, wait = 20, 3 * sec
	calls := 0
	for range members {
		c := newCourier(t)
		c.Members = members
		c.random = rand.New(rand.NewPCG(uint64(calls), 2))
		put(c, 0, "a", sec)
		for now := sec; now < 601*sec; now += sec / 10 {
			b := c.Round(now, nil)
			if b.Empty() {
				continue
			}
			if calls++; now > sec {
				require.Empty(t, b.Chunks[0].Records)
			}
			answer(b, exchange.Applied, now)
			b.Chunks[0].Reply.Wait = time.Duration(wait)
			c.Finish(b, now)
		}
	}
	require.InDelta(t, 200, calls-members, 40)
}

// TestUsageFromBeforeAnExpiryHasFloors: in any lane, whatever else has come in between.
// Later usage has none.
func TestUsageFromBeforeAnExpiryHasFloors(t *testing.T) {
	c := newCourier(t)
	span := func(begin mono.Time) Span {
		return Span{Begin: begin, Late: mono.Never, Empty: mono.Never, Known: begin.Add(30 * time.Second)}
	}
	now := sec
	reported := func(begin mono.Time) *exchange.Chunk {
		c.Room(0, now).Append(exchange.Record{Field: "ka", Delta: 1}, span(begin), "a")
		b := c.Round(now, nil)
		require.Len(t, b.Chunks, 1)
		sent := *b.Chunks[0]
		sent.Records = slices.Clone(sent.Records)
		now = now.Add(time.Millisecond)
		answer(b, exchange.Applied, now)
		for _, chunk := range b.Chunks {
			chunk.Reply.Now, chunk.Reply.Expires = now.SinceBase().Microseconds(), (now.SinceBase() + time.Minute).Microseconds()
		}
		c.Finish(b, now)
		return &sent
	}
	require.False(t, reported(now).Floors)
	begin := now
	now = now.Add(100 * time.Second)
	for range 2 { // the first answer says that the partition lives again
		chunk := reported(begin)
		require.True(t, chunk.Floors)
		require.InDelta(t, -70, time.Duration(chunk.Records[0].Floor*1000).Seconds(), 0.01)
	}
	now = now.Add(time.Second)
	require.False(t, reported(now).Floors)

	c.parts[0].lanes = nil // a lane that is new long after the expiry
	now = now.Add(time.Second)
	require.Zero(t, reported(now).Records[0].Floor, "a TAT to come, which a refund may have lowered")
}

func TestDegradedWhileMostCallsFail(t *testing.T) {
	c := newCourier(t)
	now := sec
	call := func(succeeds bool) bool {
		now += sec
		b := c.Round(now, &exchange.FleetCall{})
		if b.Empty() {
			b = c.Probe(now, &exchange.FleetCall{})
		}
		require.NotNil(t, b.Fleet)
		answer(b, exchange.Applied, now)
		if !succeeds {
			fail(b)
		}
		c.Finish(b, now)
		return c.Degraded()
	}
	changes := func(calls int, succeeds func(i int) bool) (n int) {
		before := c.Degraded()
		for i := range calls {
			if is := call(succeeds(i)); is != before {
				before = is
				n++
			}
		}
		return n
	}
	require.Zero(t, changes(100, func(i int) bool { return i%10 != 0 }), "a tenth fails")
	require.Zero(t, changes(100, func(i int) bool { return i%3 != 0 }), "a third fails")
	require.False(t, c.Degraded())
	require.Equal(t, 1, changes(100, func(i int) bool { return i%5 == 0 }), "most fail")
	require.True(t, c.Degraded())
	require.Zero(t, changes(100, func(i int) bool { return i%2 == 0 }), "half of them fail")
	require.Equal(t, 1, changes(10, func(int) bool { return true }), "all succeed again")
	require.False(t, c.Degraded())
}
