package redisstore

import (
	"fmt"
	"math"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-e56e777b/limiter/internal/exchange"
	"github.com/seed-e56e777b/limiter/internal/servertest/redisserver"
)

// Each step reports one record, and has the state after it.
func TestMerge(t *testing.T) {
	type step struct {
		after  int64 // since the step before
		record exchange.Record
		floors bool
		toGo   int64
		demand int64
	}
	for name, steps := range map[string][]step{
		"a key that was never charged": {
			{record: exchange.Record{}, toGo: exchange.LongAgo},
			{record: exchange.Record{Attempts: 1500}, toGo: exchange.LongAgo, demand: 1500},
			{record: exchange.Record{Op: exchange.Refund, Delta: 5}, toGo: exchange.LongAgo, demand: 1500},
			{record: exchange.Record{Delta: 7}, toGo: 7, demand: 1500},
		},
		"charges add up and pass with time": {
			{record: exchange.Record{Delta: second}, toGo: second},
			{record: exchange.Record{Delta: second}, toGo: 2 * second},
			{after: 3 * second, record: exchange.Record{}, toGo: -second},
			{record: exchange.Record{Delta: second}, toGo: second},
		},
		"a charge begins when it was made, but not before the bucket was full": {
			{record: exchange.Record{Delta: 100, Age: 300}, toGo: -200},
			{record: exchange.Record{Delta: 100, Age: 50}, toGo: 50},
			{record: exchange.Record{Delta: 100, Age: 500}, toGo: 150},
		},
		"a ceiling bounds the charge and takes nothing back": {
			{record: exchange.Record{Delta: 9 * second, Ceiling: second}, toGo: second},
			{record: exchange.Record{Delta: second, Ceiling: second / 2}, toGo: second},
			{record: exchange.Record{Delta: second}, toGo: 2 * second},
			{record: exchange.Record{Delta: second, Ceiling: 5 * second}, toGo: 3 * second},
		},
		"a late charge takes what was left unused since it began first": {
			{record: exchange.Record{Delta: second}, toGo: second},
			{after: 3 * second, record: exchange.Record{Delta: second}, toGo: second}, // 2 s are left unused
			{record: exchange.Record{Op: exchange.Late, Delta: 3 * second, Age: second / 2}, toGo: 7 * second / 2},
			{record: exchange.Record{Op: exchange.Late, Delta: 3 * second, Age: 9 * second, Ceiling: 2 * second}, toGo: 11 * second / 2},
			{record: exchange.Record{Op: exchange.Late, Delta: 3 * second, Age: 9 * second}, toGo: 8 * second},
			{record: exchange.Record{Op: exchange.Late, Delta: second, Age: 9 * second}, toGo: 9 * second},
		},
		"a late charge takes nothing that it finds unused itself": {
			{record: exchange.Record{Delta: second}, toGo: second},
			{after: 9 * second, record: exchange.Record{Op: exchange.Late, Delta: 5 * second, Age: 3 * second}, toGo: 2 * second},
			{record: exchange.Record{Op: exchange.Late, Delta: 5 * second, Age: 3 * second}, toGo: 4 * second},
		},
		"room left for the silent is unused": {
			{record: exchange.Record{Delta: second, Left: 64}, toGo: second},
			{record: exchange.Record{Op: exchange.Late, Delta: second, Age: 9 * second}, toGo: 7 * second / 4},
			{record: exchange.Record{Op: exchange.Reset}, toGo: 0},
			{record: exchange.Record{Delta: 60 * second, Left: 255}, toGo: 60 * second},
			{record: exchange.Record{Op: exchange.Reset}, toGo: 0},
			{record: exchange.Record{Op: exchange.Late, Delta: second, Age: 9 * second}, toGo: second},
		},
		"no more than 7 s are kept unused": {
			{record: exchange.Record{Delta: second}, toGo: second},
			{record: exchange.Record{Delta: 60 * second, Left: 200}, toGo: 61 * second},
			{record: exchange.Record{Op: exchange.Late, Delta: 9 * second, Age: 9 * second}, toGo: 63 * second},
		},
		"a floor lifts, with or without a charge, where floors travel": {
			{record: exchange.Record{Floor: second}, toGo: exchange.LongAgo},
			{record: exchange.Record{Floor: -second}, floors: true, toGo: -second},
			{record: exchange.Record{Floor: -second / 2, Delta: second / 4, Age: second}, floors: true, toGo: -second / 4},
			{record: exchange.Record{Floor: second}, floors: true, toGo: second},
			{record: exchange.Record{Floor: second / 2}, floors: true, toGo: second},
			{record: exchange.Record{Floor: 2 * second, Delta: 5}, floors: true, toGo: 2*second + 5},
			{record: exchange.Record{Op: exchange.Refund, Floor: 3 * second, Delta: 5}, floors: true, toGo: 3*second - 5},
		},
		"a refund never lifts above full": {
			{record: exchange.Record{Delta: second}, toGo: second},
			{record: exchange.Record{Op: exchange.Refund, Delta: second / 4}, toGo: 3 * second / 4},
			{record: exchange.Record{Op: exchange.Refund, Delta: 5 * second}, toGo: 0},
			{after: 10, record: exchange.Record{Op: exchange.Refund, Delta: second}, toGo: -10},
		},
		"a reset is full now, whatever the floor": {
			{record: exchange.Record{Delta: 9 * second, Attempts: 1000}, toGo: 9 * second, demand: 1000},
			{record: exchange.Record{Op: exchange.Reset, Floor: second}, floors: true, toGo: 0, demand: 1000},
		},
		"demand decays by τ": {
			{record: exchange.Record{Attempts: 100_000}, toGo: exchange.LongAgo, demand: 100_000},
			{after: second / 2, record: exchange.Record{Attempts: 1000}, toGo: exchange.LongAgo, demand: 36788 + 1000},
			{after: second, record: exchange.Record{}, toGo: exchange.LongAgo, demand: 5114},
		},
		"demand is taken back, as far as there is some": {
			{record: exchange.Record{Attempts: 37_000}, toGo: exchange.LongAgo, demand: 37_000},
			{record: exchange.Record{Attempts: -30_000}, toGo: exchange.LongAgo, demand: 7000},
			{record: exchange.Record{Delta: second, Attempts: -30_000}, toGo: second},
			{record: exchange.Record{Attempts: -1}, toGo: second},
		},
		"under another limit the tokens that were left stay left": {
			{record: exchange.Record{Delta: 3 * second, Limit: lim(10*second, 10)}, toGo: 3 * second},                       // 7 of 10 are left
			{record: exchange.Record{Limit: lim(20*second, 10)}, toGo: 6 * second},                                          // at half the rate
			{record: exchange.Record{Limit: lim(second, 20)}, toGo: 650_000},                                                // of 20
			{record: exchange.Record{Limit: lim(5*second, 5)}, toGo: 0},                                                     // at most the new burst
			{after: second, record: exchange.Record{Limit: lim(10*second, 10)}, toGo: 5 * second},                           // 5 of 5 were left
			{record: exchange.Record{Delta: second, Limit: lim(8*second, 4)}, toGo: second},                                 // 4 of 5 are kept, half a token is taken
			{after: second / 2, record: exchange.Record{Delta: second, Limit: lim(40*second, 4)}, toGo: 2_500_000 + second}, // ¼ was missing
		},
		"under another limit what is owed stays owed": {
			{record: exchange.Record{Delta: 15 * second, Limit: lim(10*second, 10)}, toGo: 15 * second},
			{record: exchange.Record{Limit: lim(5*second, 10)}, toGo: 7_500_000},
			{record: exchange.Record{Limit: lim(second, 1)}, toGo: 6 * second},
			{record: exchange.Record{Limit: lim(1, exchange.MaxSpan)}, toGo: 1},
			{record: exchange.Record{Limit: lim(exchange.MaxSpan, 1)}, toGo: exchange.MaxSpan},
			{record: exchange.Record{Delta: exchange.MaxSpan, Limit: lim(exchange.MaxSpan, 1)}, toGo: exchange.MaxTime},
		},
		"a full bucket is not filled up to a larger burst at once": {
			{record: exchange.Record{Delta: second, Limit: lim(10*second, 10)}, toGo: second},
			{after: 3 * second, record: exchange.Record{Limit: lim(20*second, 20)}, toGo: 10 * second},
			{after: 30 * second, record: exchange.Record{Limit: lim(20*second, 20)}, toGo: -20 * second},
			{record: exchange.Record{Limit: lim(second, 5)}, toGo: -20 * second},
			{record: exchange.Record{Delta: second, Limit: lim(20*second, 20)}, toGo: 16 * second},
		},
		"a bucket that was full when a charge began is refilled by the new limit since": {
			{record: exchange.Record{Delta: second, Limit: lim(10*second, 10)}, toGo: second},
			{after: 11 * second, record: exchange.Record{Delta: second, Age: 2 * second, Limit: lim(20*second, 20)}, toGo: 9 * second},
			{after: 19 * second, record: exchange.Record{Delta: second, Age: 30 * second, Limit: lim(10*second, 10)}, toGo: -9 * second},
		},
		"a state is refilled by the limit that it was seen by last": {
			{record: exchange.Record{Delta: second, Limit: lim(second, 100)}, toGo: second}, // none is left
			{record: exchange.Record{Limit: lim(900*second, 100)}, toGo: 900 * second},
			{after: 9 * second, record: exchange.Record{Limit: lim(second, 100)}, toGo: 990_000}, // one is back
		},
		"a key that was never charged is full by any limit": {
			{record: exchange.Record{Attempts: 1, Limit: lim(10*second, 10)}, toGo: exchange.LongAgo, demand: 1},
			{record: exchange.Record{Limit: lim(second, 1000)}, toGo: exchange.LongAgo, demand: 1},
		},
		"what was left unused is tokens too": {
			{record: exchange.Record{Delta: second, Limit: lim(10*second, 10)}, toGo: second},
			{after: 3 * second, record: exchange.Record{Delta: second, Limit: lim(10*second, 10)}, toGo: second}, // 2 s are left unused
			{record: exchange.Record{Op: exchange.Late, Delta: 9 * second, Age: 9 * second, Limit: lim(20*second, 10)}, toGo: 2*second + 5*second},
		},
		"a reset by no limit leaves the limit": {
			{record: exchange.Record{Op: exchange.Reset}, toGo: 0},
			{record: exchange.Record{Delta: 5 * second, Limit: lim(10*second, 10)}, toGo: 5 * second}, // of a limit that is not known
			{record: exchange.Record{Op: exchange.Reset}, toGo: 0},
			{record: exchange.Record{Limit: lim(10*second, 20)}, toGo: 5 * second},
		},
		"absurd numbers": {
			{record: exchange.Record{Delta: math.MaxInt64, Attempts: math.MaxInt64}, toGo: exchange.MaxSpan, demand: exchange.MaxSpan},
			{record: exchange.Record{Delta: math.MaxInt64, Attempts: math.MaxInt64}, toGo: exchange.MaxTime, demand: exchange.MaxTime},
			{record: exchange.Record{Delta: math.MaxInt64, Attempts: math.MaxInt64}, toGo: exchange.MaxTime, demand: exchange.MaxTime},
			{record: exchange.Record{Delta: math.MinInt64, Attempts: math.MinInt64, Age: -1, Ceiling: -1, Floor: -1}, floors: true, toGo: exchange.MaxTime, demand: exchange.MaxTime - exchange.MaxSpan},
		},
	} {
		t.Run(name, func(t *testing.T) {
			worlds(t, func(t *testing.T, w world) {
				now := int64(epoch)
				for i, s := range steps {
					now += s.after
					w.set(now)
					s.record.Field = "kx"
					c := chunk(id(1, 0), int64(i+1), s.record)
					c.Floors = s.floors
					want := exchange.Reply{Now: now, Prev: int64(i), Keys: []exchange.KeyState{keyState(s.toGo, s.demand)}}
					require.Equal(t, want, one(t, w, c), "step %d", i)
				}
			})
		})
	}
}

func TestStateIsForgottenTwoMinutesAfterItHasLostItsMeaning(t *testing.T) {
	worlds(t, func(t *testing.T, w world) {
		one(t, w, chunk(id(1, 0), 1, exchange.Record{Field: "kx", Delta: second}, exchange.Record{Field: "klong", Delta: 1000 * second}))
		look := func(seq int64) int64 {
			return one(t, w, chunk(id(1, 0), seq, exchange.Record{Field: "kx"})).Keys[0].ToGo
		}
		w.set(epoch + 121*second)
		require.EqualValues(t, -120*second, look(2))
		w.set(epoch + 121*second + 1)
		require.Equal(t, int64(exchange.LongAgo), look(3))
	})
}

// Records of one field count in their order, and all have the state after the last.
func TestFieldTwiceInAChunk(t *testing.T) {
	worlds(t, func(t *testing.T, w world) {
		r := one(t, w, chunk(id(1, 0), 1,
			exchange.Record{Field: "kx", Delta: second, Attempts: 1},
			exchange.Record{Field: "ky", Delta: 7},
			exchange.Record{Field: "kx", Op: exchange.Refund, Delta: 9 * second},
			exchange.Record{Field: "kx", Delta: 5, Attempts: 2},
		))
		x := keyState(5, 3)
		require.Equal(t, []exchange.KeyState{x, keyState(7, 0), x, x}, r.Keys)
	})
}

func TestOnceAndLoss(t *testing.T) {
	worlds(t, func(t *testing.T, w world) {
		a := id(1, 0)
		state := func(status exchange.Status, prev, toGo int64) exchange.Reply {
			return exchange.Reply{Status: status, Now: epoch, Prev: prev, Keys: []exchange.KeyState{{ToGo: toGo}}}
		}
		require.Equal(t, state(exchange.Applied, 0, 5), one(t, w, charge(a, 1, 5)))
		require.Equal(t, state(exchange.Duplicate, 1, 5), one(t, w, charge(a, 1, 5)))
		require.Equal(t, state(exchange.Applied, 1, 10), one(t, w, charge(a, 2, 5)))
		require.Equal(t, state(exchange.Duplicate, 2, 10), one(t, w, charge(a, 1, 5)), "older still")
		require.Equal(t, state(exchange.Lost, 2, 10), one(t, w, charge(a, 4, 5)))
		require.Equal(t, state(exchange.Applied, 0, 15), one(t, w, charge(id(1, 1), 1, 5)), "lanes count for themselves")
		require.Equal(t, state(exchange.Applied, 0, 20), one(t, w, charge(id(2, 0), 1, 5)), "so do processes")
		other := charge(a, 1, 5)
		other.Partition = 1
		require.Equal(t, state(exchange.Applied, 0, 5), one(t, w, other), "and partitions")

		w.wipe()
		require.Equal(t, state(exchange.Lost, 0, exchange.LongAgo), one(t, w, charge(a, 3, 5)))
		healed := charge(a, 3, 5)
		healed.Floors, healed.Records[0].Floor = true, 10
		require.Equal(t, state(exchange.Applied, 0, 15), one(t, w, healed))
		require.Equal(t, state(exchange.Duplicate, 3, 15), one(t, w, healed))
		require.Equal(t, state(exchange.Applied, 3, 20), one(t, w, charge(a, 4, 5)))
	})
}

func TestLeaveForgetsTheSequenceNumber(t *testing.T) {
	worlds(t, func(t *testing.T, w world) {
		a := id(1, 0)
		one(t, w, charge(a, 1, 5))
		last := charge(a, 2, 5)
		last.Leave = true
		require.Equal(t, exchange.Applied, one(t, w, last).Status)
		require.Equal(t, exchange.Reply{Now: epoch, Keys: []exchange.KeyState{{ToGo: 15}}}, one(t, w, charge(a, 1, 5)))
	})
}

func TestSequenceNumbersLiveForADay(t *testing.T) {
	worlds(t, func(t *testing.T, w world) {
		day := keepSequence.Microseconds()
		one(t, w, charge(id(9, 0), 1, 9*day)) // the state that there is
		one(t, w, chunk(id(1, 0), 1))
		w.set(epoch + day)
		require.EqualValues(t, 1, one(t, w, chunk(id(1, 0), 2)).Prev)
		w.set(epoch + 2*day)
		require.EqualValues(t, 2, one(t, w, chunk(id(1, 0), 3)).Prev, "an empty chunk keeps it alive")
		w.set(epoch + 3*day + 1)
		require.Equal(t, exchange.Lost, one(t, w, chunk(id(1, 0), 4)).Status)
	})
}

// TestAllExpiresAMinuteAfterTheLastBucketIsFull: with the numbers of lanes, and though
// empty chunks come.
func TestAllExpiresAMinuteAfterTheLastBucketIsFull(t *testing.T) {
	worlds(t, func(t *testing.T, w world) {
		c := charge(id(1, 0), 1, 1000*second)
		one(t, w, c)
		expires := c.Reply.Expires
		require.GreaterOrEqual(t, expires, epoch+1060*int64(second))
		require.LessOrEqual(t, expires, epoch+1081*int64(second))
		w.set(epoch + 1000*second)
		one(t, w, chunk(id(1, 0), 2))
		c = chunk(id(1, 0), 3, exchange.Record{Field: "kx"})
		one(t, w, c)
		require.Equal(t, expires, c.Reply.Expires, "nothing is reported")
		w.set(expires - 1)
		require.EqualValues(t, 3, one(t, w, chunk(id(1, 0), 4)).Prev)
		w.set(expires + 1000)
		require.Equal(t, exchange.Reply{Status: exchange.Lost, Now: expires + 1000}, one(t, w, chunk(id(1, 0), 5)))
		c = chunk(id(1, 0), 5, exchange.Record{Field: "kx", Attempts: 1})
		c.Floors, c.Tau = true, 5*time.Minute
		one(t, w, c)
		require.InDelta(t, float64(expires+601*second), float64(c.Reply.Expires), float64(20*second), "two τ")
	})
}

// TestLeavingShortensWhatIsLeft: reset or refunded charges keep no hash alive after a
// process has left.
func TestLeavingShortensWhatIsLeft(t *testing.T) {
	worlds(t, func(t *testing.T, w world) {
		one(t, w, chunk(id(1, 0), 1, exchange.Record{Field: "kx", Delta: 7200 * second}, exchange.Record{Field: "ky", Delta: 300 * second}))
		c := chunk(id(1, 0), 2, exchange.Record{Field: "kx", Op: exchange.Reset})
		one(t, w, c)
		require.InDelta(t, float64(epoch+7270*second), float64(c.Reply.Expires), float64(11*second))
		c = chunk(id(1, 0), 3)
		c.Leave = true
		one(t, w, c)
		require.InDelta(t, float64(epoch+370*second), float64(c.Reply.Expires), float64(11*second))

		f := exchange.FleetCall{Process: [8]byte{1}, Silent: time.Second, Forget: time.Minute, Announce: []exchange.News{{Field: "kx", ToGo: 7200 * second}}}
		callFleet(t, w, f)
		f.Announce = []exchange.News{{Field: "kx", Reset: true}}
		callFleet(t, w, f)
		f.Announce, f.Leave, f.Received = nil, true, 2
		require.EqualValues(t, 2, callFleet(t, w, f).Latest)
		w.set(epoch + 81*second)
		f.Received = 0
		require.Zero(t, callFleet(t, w, f).Latest, "all has expired")
	})
}

func TestClockNeverGoesBack(t *testing.T) {
	worlds(t, func(t *testing.T, w world) {
		one(t, w, charge(id(1, 0), 1, second))
		w.set(epoch - 3600*second)
		r := one(t, w, charge(id(1, 0), 2, 0))
		require.Equal(t, exchange.Reply{Now: epoch, Prev: 1, Keys: []exchange.KeyState{{ToGo: second}}}, r)
		w.set(epoch - 3599*second)
		r = one(t, w, charge(id(1, 0), 3, 0))
		require.Equal(t, exchange.Reply{Now: epoch + second, Prev: 2, Keys: []exchange.KeyState{{ToGo: 0}}}, r, "it goes on from there")

		m := exchange.FleetCall{Process: [8]byte{1}, Silent: time.Second, Forget: time.Minute}
		now := callFleet(t, w, m).Now
		w.set(epoch - 7200*second)
		require.Equal(t, now, callFleet(t, w, m).Now)
	})
}

func TestNews(t *testing.T) {
	worlds(t, func(t *testing.T, w world) {
		now := int64(epoch)
		call := func(d time.Duration, heard int64, tell ...exchange.News) exchange.FleetReply {
			now += d.Microseconds()
			w.set(now)
			return callFleet(t, w, exchange.FleetCall{Process: [8]byte{1}, Silent: time.Second, Forget: time.Minute, Remember: 5 * time.Minute, Interval: 100 * time.Millisecond, Received: heard, Announce: tell})
		}
		low := exchange.News{Field: "ka", ToGo: 5_000_000, Demand: 7}
		r := call(0, 0, low, exchange.News{Field: "kb", Reset: true})
		require.Equal(t, []exchange.News{low, {Field: "kb", Reset: true}}, r.News, "who tells hears it too")
		require.EqualValues(t, 2, r.Latest)
		low.ToGo -= 2_000_000
		r = call(2*time.Second, 0)
		require.Equal(t, low, r.News[0], "it holds until the bucket is full,")
		require.Empty(t, call(0, 2).News, "is told once to whoever has heard it,")
		require.Len(t, call(0, 99).News, 2, "and again to one that has heard a lost state")
		require.Len(t, call(4*time.Second, 0).News, 1, "what is over is not told")
	})
}

// TestNewsIsReadInParts: a process that calls with the number of the last news received
// gets all news, each once and in order.
func TestNewsIsReadInParts(t *testing.T) {
	worlds(t, func(t *testing.T, w world) {
		call := func(heard int64, tell ...exchange.News) exchange.FleetReply {
			return callFleet(t, w, exchange.FleetCall{Process: [8]byte{1}, Silent: time.Second, Forget: time.Minute, Received: heard, Announce: tell})
		}
		read := func(heard int64) (numbers []int, calls int) {
			for latest := heard + 1; heard < latest; calls++ {
				r := call(heard)
				require.Greater(t, r.Received, heard)
				require.LessOrEqual(t, len(r.News), exchange.MaxReceived)
				for _, n := range r.News {
					number, err := strconv.Atoi(n.Field[1:])
					require.NoError(t, err)
					numbers = append(numbers, number)
				}
				heard, latest = r.Received, r.Latest
			}
			return numbers, calls
		}
		told := 0
		tell := func(n int) {
			news := make([]exchange.News, n)
			for i := range news {
				told++
				news[i] = exchange.News{Field: fmt.Sprint("k", told), ToGo: 9e9}
			}
			require.EqualValues(t, told, call(0, news...).Latest)
		}
		span := func(from, to int) (list []int) {
			for i := from; i <= to; i++ {
				list = append(list, i)
			}
			return list
		}
		for _, n := range []int{1, newsPage - 2, 1, 1, exchange.MaxAnnounced, exchange.MaxAnnounced, 77} { // a page is begun, filled to one short, filled
			tell(n)
			numbers, _ := read(0)
			require.Equal(t, span(1, told), numbers)
		}
		numbers, calls := read(int64(told - newsPage - 3))
		require.Equal(t, span(told-newsPage-2, told), numbers)
		require.Equal(t, 1, calls)
		for told < exchange.NewsKept+exchange.MaxAnnounced {
			tell(exchange.MaxAnnounced)
		}
		numbers, calls = read(0)
		require.Equal(t, span(told-len(numbers)+1, told), numbers, "the latest,")
		require.Greater(t, len(numbers), exchange.NewsKept-newsPage, "as many as are kept,")
		require.LessOrEqual(t, calls, exchange.NewsKept/exchange.MaxReceived+1, "in few calls")
	})
}

// TestOlderNewsIsLeftAlone: data of other versions in the hash, or foreign data in place
// of a page, is not read as news, and does no harm.
func TestOlderNewsIsLeftAlone(t *testing.T) {
	t.Parallel()
	_, client := newReal(t, redisserver.Options{})
	call := func(tell ...exchange.News) exchange.FleetReply {
		return callFleet(t, client, exchange.FleetCall{Process: [8]byte{1}, Silent: time.Second, Forget: time.Minute, Announce: tell})
	}
	require.Len(t, call(exchange.News{Field: "ka", ToGo: 9e9}).News, 1)
	put := func(field, value string) {
		require.NoError(t, client.rdb.HSet(t.Context(), client.fleet, field, value).Err())
	}
	put("\x00e\x01\x00", string(packed(1, epoch, 1000))+"\x00kold")
	put("\x00t\x01\x00", string(packed(1)))
	for _, page := range []string{"", "rubbish", string(packed(1)) + "\x03rub", string(packed(8177)) + "\x01k", string(make([]byte, 1<<16))} {
		put("\x00t\x00\x00", page)
		require.Empty(t, call().News)
	}
	for range 2 * newsPage {
		call(exchange.News{Field: "kb", ToGo: 9e9})
	}
	require.GreaterOrEqual(t, len(call().News), newsPage, "what was told since")
}

func TestFleet(t *testing.T) {
	worlds(t, func(t *testing.T, w world) {
		now := int64(epoch)
		at := func(d time.Duration, process byte, change ...func(*exchange.FleetCall)) exchange.FleetReply {
			now += d.Microseconds()
			w.set(now)
			f := exchange.FleetCall{Process: [8]byte{process}, Silent: time.Second, Forget: time.Minute, Remember: 5 * time.Minute, Interval: 100 * time.Millisecond, Age: time.Hour}
			for _, c := range change {
				c(&f)
			}
			r := callFleet(t, w, f)
			require.Equal(t, now, r.Now)
			r.Now = 0
			return r
		}
		leave := func(f *exchange.FleetCall) { f.Leave = true }
		slow := func(f *exchange.FleetCall) { f.Interval = 2 * time.Second }
		reply := func(members, silent, lost int) exchange.FleetReply {
			return exchange.FleetReply{Members: members, Silent: silent, Lost: lost, Fastest: 100 * time.Millisecond, Slowest: 100 * time.Millisecond}
		}

		require.Equal(t, reply(1, 0, 0), at(0, 1))
		require.Equal(t, reply(2, 0, 0), at(time.Millisecond, 2))
		require.Equal(t, reply(3, 0, 0), at(0, 3))
		require.Equal(t, reply(3, 0, 0), at(time.Second, 1), "not silent yet")
		require.Equal(t, reply(3, 2, 0), at(time.Second/8, 1))
		require.Equal(t, reply(3, 1, 0), at(0, 2), "back at once")
		require.Equal(t, reply(2, 1, 0), at(0, 2, leave), "a process that leaves does not count")
		require.Equal(t, reply(2, 1, 0), at(0, 1))

		require.Equal(t, reply(1, 0, 1), at(2*time.Minute, 1), "gone, and never left")
		require.Equal(t, reply(2, 0, 0), at(time.Second, 3), "back")
		require.Equal(t, reply(1, 0, 1), at(4*time.Minute, 1))
		require.Equal(t, reply(1, 0, 0), at(time.Minute+time.Second/2, 1), "forgotten")

		replaced := reply(3, 1, 0)
		replaced.Newer = 1
		young := func(f *exchange.FleetCall) { f.Age = 10 * time.Second }
		old := func(f *exchange.FleetCall) { f.Age = time.Hour }
		require.Equal(t, reply(2, 0, 0), at(0, 5, old))
		require.Equal(t, reply(3, 0, 0), at(0, 6, young), "nobody is silent")
		at(time.Second, 1, old)
		at(0, 6, young)
		require.Equal(t, replaced, at(time.Second/2, 1, old), "one is silent, and one has started since")
		at(0, 6, func(f *exchange.FleetCall) { f.Leave = true })
		at(0, 7, func(f *exchange.FleetCall) { f.Age = 4 * time.Second })
		require.Equal(t, 3, at(time.Second, 1, old).Members)
		require.Equal(t, 2, at(time.Second/8, 1, old).Members, "a process that has lived briefly is gone when it is silent")
		w.wipe()

		degraded := func(f *exchange.FleetCall) { f.Degraded = true }
		require.Equal(t, reply(1, 0, 0), at(0, 1, degraded), "a member from its first call on")
		require.Equal(t, reply(2, 0, 0), at(0, 2))
		for range 10 {
			require.Equal(t, reply(2, 1, 0), at(10*time.Second, 1, degraded), "of the others one is silent")
			require.Equal(t, reply(2, 1, 0), at(0, 2), "calls of a degraded process keep it a member, and silent")
			require.Equal(t, reply(2, 0, 0), at(0, 1, degraded), "it is not silent for itself")
		}
		require.Equal(t, reply(1, 0, 1), at(31*time.Second, 2), "gone after half of the time")
		require.Equal(t, reply(2, 0, 0), at(0, 1))
		require.Equal(t, reply(2, 0, 0), at(0, 2))
		require.Equal(t, reply(1, 0, 0), at(0, 1, degraded, leave))
		w.wipe()
		require.Equal(t, reply(1, 0, 0), at(0, 1))
		require.Equal(t, reply(1, 0, 0), at(6*time.Minute, 1, degraded), "forgotten: its next call is its first")
		require.Equal(t, reply(2, 0, 0), at(0, 2))
		w.wipe()

		require.Equal(t, reply(1, 0, 0), at(0, 1))
		mixed := reply(2, 0, 0)
		mixed.Slowest = 2 * time.Second
		require.Equal(t, mixed, at(0, 4, slow), "intervals differ")
		require.Equal(t, mixed, at(0, 1))
		require.Equal(t, reply(2, 0, 0), at(0, 4), "they are the same again")

		w.wipe()
		limit := func(full, burst int64) func(*exchange.FleetCall) {
			return func(f *exchange.FleetCall) { f.Limit = lim(full, burst) }
		}
		other := func(members int, full, burst int64) exchange.FleetReply {
			r := reply(members, 0, 0)
			r.Other = lim(full, burst)
			return r
		}
		require.Equal(t, reply(1, 0, 0), at(0, 1, limit(5, 9)))
		require.Equal(t, reply(2, 0, 0), at(0, 2), "a limit that is none")
		require.Equal(t, reply(3, 0, 0), at(0, 3, limit(5, 9)))
		require.Equal(t, other(4, 5, 9), at(0, 4, limit(5, 8)))
		require.Equal(t, other(4, 5, 8), at(0, 1, limit(5, 9)))
		require.Equal(t, other(5, 5, 9), at(0, 5, limit(4, 9)))
		require.Equal(t, other(5, 4, 9), at(0, 1, limit(5, 9)))
		at(0, 4, leave)
		require.Equal(t, reply(4, 0, 0), at(0, 5, limit(5, 9)), "a limit has changed")

		w.wipe()
		require.Equal(t, reply(1, 0, 0), at(0, 1), "nothing is known")
	})
}

func TestCallersFaults(t *testing.T) {
	worlds(t, func(t *testing.T, w world) {
		sound := charge(id(1, 0), 1, 5)
		faulty := map[string]*exchange.Chunk{
			"partition":         {Partition: partitions},
			"records":           {Records: make([]exchange.Record, exchange.MaxRecords+1)},
			"begin with":        chunk(id(1, 0), 1, exchange.Record{Field: "\x00m"}),
			"k or d":            chunk(id(1, 0), 1, exchange.Record{}),
			"unknown operation": chunk(id(1, 0), 1, exchange.Record{Field: "k", Op: exchange.Late + 1}),
			"bytes":             chunk(id(1, 0), 1, exchange.Record{Field: "k" + string(make([]byte, maxFieldLen))}),
		}
		for want, c := range faulty {
			w.Exchange(t.Context(), nil, []*exchange.Chunk{c, sound})
			require.ErrorContains(t, c.Err, want)
			require.NoError(t, sound.Err, "the others go on")
		}
	})
}

// Every member is counted, however many.
func TestLargeFleet(t *testing.T) {
	worlds(t, func(t *testing.T, w world) {
		var r exchange.FleetReply
		for i := range 50 {
			r = callFleet(t, w, exchange.FleetCall{Process: [8]byte{byte(i)}, Silent: time.Second, Forget: time.Minute, Remember: 5 * time.Minute, Interval: 100 * time.Millisecond})
		}
		require.Equal(t, 50, r.Members)
	})
}
