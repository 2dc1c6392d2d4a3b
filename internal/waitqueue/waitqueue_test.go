package waitqueue

import (
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/seed-e56e777b/limiter/internal/mono"
)

// bucket is a plain token bucket that records the tokens taken.
type bucket struct {
	rate, burst, level float64
	at                 mono.Time
	taken              []taken
}

type taken struct {
	at mono.Time
	n  int64
}

func (b *bucket) levelAt(at mono.Time) float64 {
	return min(b.burst, b.level+max(0, at.Sub(b.at)).Seconds()*b.rate)
}

func (b *bucket) Exceeds(n int64) bool { return float64(n) > b.burst }

func (b *bucket) Turn(from mono.Time, n, extra int64) mono.Time {
	from = max(from, b.at)
	missing := float64(n-extra) - b.levelAt(from)
	switch {
	case missing <= 1e-9:
		return from
	case float64(n-extra) > b.burst || b.rate == 0:
		return mono.Never
	}
	return from + mono.Time(missing/b.rate*1e9)
}

func (b *bucket) Take(at mono.Time, n int64) {
	b.level, b.at = b.levelAt(at)-float64(n), max(at, b.at)
	b.taken = append(b.taken, taken{at, n})
}

func (b *bucket) Until() mono.Time { return mono.Never }

const (
	ms  = mono.Time(time.Millisecond)
	sec = mono.Time(time.Second)
)

func noDue(t *testing.T) *Queues {
	return New(func(key string) { t.Errorf("the turn of %q has come", key) })
}

func admitted(w *Waiter) bool {
	select {
	case <-w.Ready():
		return !w.Refused()
	default:
		return false
	}
}

// TestServesInOrder: waiters are admitted in the order of their arrival, each as
// of the instant at which the bucket holds its cost.
func TestServesInOrder(t *testing.T) {
	q := New(func(string) {})
	b := &bucket{rate: 10, burst: 5, at: sec}
	costs := []int64{1, 5, 0, 2, 1}
	var waiters []*Waiter
	for i, n := range costs {
		waiters = append(waiters, q.Join("k", "key", n, sec+mono.Time(i)))
	}
	require.EqualValues(t, 9, q.Tokens("k"))
	require.Equal(t, 5, q.Waiting())
	require.True(t, q.Serve("k", b, sec+50*ms))
	require.Empty(t, b.taken)
	for now := sec; now <= 2*sec; now += 10 * ms {
		q.Serve("k", b, now)
	}
	require.Equal(t, []taken{{sec + 100*ms, 1}, {sec + 600*ms, 5}, {sec + 600*ms, 0}, {sec + 800*ms, 2}, {sec + 900*ms, 1}}, b.taken)
	for i, w := range waiters {
		require.True(t, admitted(w), "waiter %d", i)
		require.False(t, q.Leave(w), "it has left")
	}
	require.Zero(t, q.Waiting())
	require.False(t, q.Has("k"))
}

// TestLateServeLosesNothing: waiters whose turn had come before a late call are
// admitted as of their turns, up to CatchUp.
func TestLateServeLosesNothing(t *testing.T) {
	for _, late := range []time.Duration{CatchUp / 2, CatchUp, 100 * CatchUp} {
		q, b := New(func(string) {}), &bucket{rate: 1000, burst: 1, at: sec}
		for range 10_000 {
			q.Join("k", "key", 1, sec)
		}
		q.Serve("k", b, sec.Add(late))
		want := int(b.rate * min(late, CatchUp).Seconds())
		if late > CatchUp {
			want++ // the burst that was there by then
		}
		require.InDelta(t, want, len(b.taken), 1, "%v late", late)
		require.True(t, slices.IsSortedFunc(b.taken, func(x, y taken) int { return int(x.at - y.at) }))
	}
}

// TestTurnsBeginAtArrival: no waiter is admitted as of an instant before its
// arrival.
func TestTurnsBeginAtArrival(t *testing.T) {
	q, b := New(func(string) {}), &bucket{rate: 1000, burst: 1, at: sec}
	for i := range mono.Time(5) {
		q.Join("k", "key", 1, sec+100*ms+i*ms/2)
	}
	q.Serve("k", b, sec+103*ms)
	require.Equal(t, []taken{{sec + 100*ms, 1}, {sec + 101*ms, 1}, {sec + 102*ms, 1}, {sec + 103*ms, 1}}, b.taken)
}

// TestLeaveFreesThePlace: after a waiter has left, the queue is as if it had
// never come.
func TestLeaveFreesThePlace(t *testing.T) {
	q, b := New(func(string) {}), &bucket{rate: 1, burst: 1, at: sec}
	first, second, third := q.Join("k", "key", 1, sec), q.Join("k", "key", 1, sec), q.Join("k", "key", 1, sec)
	require.True(t, q.Leave(second))
	require.False(t, q.Leave(second))
	require.EqualValues(t, 2, q.Tokens("k"))
	require.True(t, q.Leave(first))
	q.Serve("k", b, 2*sec)
	require.True(t, admitted(third))
	require.False(t, admitted(first) || admitted(second))
	require.Equal(t, []taken{{2 * sec, 1}}, b.taken)
}

// TestTooLargeIsRefused: a wait whose cost exceeds the new burst ends, and delays no
// other.
func TestTooLargeIsRefused(t *testing.T) {
	q, b := New(func(string) {}), &bucket{rate: 1, burst: 2, at: sec}
	large, small := q.Join("k", "key", 3, sec), q.Join("k", "key", 1, sec)
	q.Serve("k", b, 2*sec)
	<-large.Ready()
	require.True(t, large.Refused())
	require.True(t, admitted(small))
}

// TestReservationsActBehindWaiters: waiters don't see tokens that were reserved
// after their arrival; later waiters do.
func TestReservationsActBehindWaiters(t *testing.T) {
	q, b := New(func(string) {}), &bucket{rate: 1, burst: 1, at: sec}
	before := q.Join("k", "key", 1, sec)
	b.level -= 2
	q.Reserve("k", 2)
	after := q.Join("k", "key", 1, sec)
	q.Serve("k", b, 2*sec)
	require.True(t, admitted(before))
	for now := 2 * sec; now < 5*sec; now += 100 * ms {
		q.Serve("k", b, now)
		require.False(t, admitted(after), "at %v", time.Duration(now))
	}
	q.Serve("k", b, 5*sec)
	require.True(t, admitted(after))
}

// TestTimerCallsAtTheNextTurn: due is called once for a turn, and once when the
// first waiter leaves.
func TestTimerCallsAtTheNextTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		now := func() mono.Time { return sec.Add(time.Since(begin)) }
		b := &bucket{rate: 10, burst: 1, at: sec}
		var calls []time.Duration
		var mu sync.Mutex // of the bucket
		var q *Queues
		q = New(func(key string) {
			mu.Lock()
			defer mu.Unlock()
			require.Equal(t, "key", key)
			calls = append(calls, time.Since(begin))
			q.Serve("k", b, now())
		})
		var waiters []*Waiter
		for range 4 {
			waiters = append(waiters, q.Join("k", "key", 1, now()))
			mu.Lock()
			q.Serve("k", b, now())
			mu.Unlock()
		}
		time.Sleep(150 * time.Millisecond)
		q.Leave(waiters[2])
		synctest.Wait()
		q.Leave(waiters[1])
		time.Sleep(time.Second)
		mu.Lock()
		defer mu.Unlock()
		require.Equal(t, []time.Duration{100 * time.Millisecond, 150 * time.Millisecond, 200 * time.Millisecond}, calls)
		require.Len(t, b.taken, 2)
	})
}

// TestGroupComesFirstWhereverItWaits: the oldest group is before all later
// waiters, also in a queue that it joins late. Waiters behind it are served if
// there is enough for both.
func TestGroupComesFirstWhereverItWaits(t *testing.T) {
	q, b := New(func(string) {}), &bucket{rate: 1, burst: 3, at: sec}
	g := NewGroup()
	single := q.Join("k", "key", 1, sec)
	place := g.Join(q, "k", "key", 2)
	require.True(t, place.Queued())
	require.True(t, place.Admits(b, 3*sec), "it came first, and 2 tokens are there")
	require.False(t, place.Admits(b, 2*sec))
	q.Serve("k", b, 2*sec)
	require.False(t, admitted(single), "1 token is in the bucket, the group needs 2")
	q.Serve("k", b, 3*sec)
	<-g.Ready() // called
	require.False(t, admitted(single))
	q.Serve("k", b, 4*sec)
	require.True(t, admitted(single), "3 tokens: 2 for the group, 1 behind it")
	require.Empty(t, g.Ready(), "called twice")
	b.level = 0
	place.CallAgain()
	q.Serve("k", b, 4*sec)
	require.Empty(t, g.Ready())
	q.Serve("k", b, 6*sec)
	<-g.Ready()
	place.Leave()
	q.Serve("k", b, 6*sec)
	require.False(t, q.Has("k"))
}

// TestQueueAgainstItsModel: random arrivals, departures and pauses are served
// as a plain list of waiters says.
func TestQueueAgainstItsModel(t *testing.T) {
	type modeled struct {
		w     *Waiter
		cost  int64
		since mono.Time
	}
	rapid.Check(t, func(t *rapid.T) {
		q := New(func(string) {})
		b := &bucket{rate: 10, burst: 4, level: 2, at: sec}
		model := *b
		var list []modeled
		now := sec
		serve := func() {
			q.Serve("k", b, now)
			from := now.Add(-CatchUp)
			for len(list) > 0 {
				first := list[0]
				at := model.Turn(max(from, first.since), first.cost, 0)
				if at > now {
					break
				}
				model.Take(at, first.cost)
				from = at
				if !admitted(first.w) {
					t.Fatalf("the first of %d is not admitted at %d", len(list), at)
				}
				list = list[1:]
			}
			for _, m := range list {
				if admitted(m.w) {
					t.Fatalf("somebody is admitted before its turn")
				}
			}
		}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			switch rapid.IntRange(0, 3).Draw(t, "op") {
			case 0, 1:
				n := rapid.Int64Range(0, 4).Draw(t, "cost")
				list = append(list, modeled{q.Join("k", "key", n, now), n, now})
			case 2:
				if len(list) > 0 {
					i := rapid.IntRange(0, len(list)-1).Draw(t, "who")
					require.True(t, q.Leave(list[i].w))
					list = slices.Delete(list, i, i+1)
				}
			case 3:
				now += mono.Time(rapid.Int64Range(0, int64(500*ms)).Draw(t, "passes"))
			}
			serve()
			var tokens int64
			for _, m := range list {
				tokens += m.cost
			}
			require.Equal(t, tokens, q.Tokens("k"))
			require.Equal(t, len(list), q.Waiting())
			require.Equal(t, len(list) > 0, q.Has("k"))
		}
		require.Equal(t, model.taken, b.taken)
	})
}

// TestWaiterIsSmall: 50,000 waiters on a key cost at most 200 bytes each.
func TestWaiterIsSmall(t *testing.T) {
	const waiters = 50_000
	q := noDue(t)
	list := make([]*Waiter, waiters)
	heap := func() float64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return float64(m.HeapAlloc)
	}
	before := heap()
	for i := range list {
		list[i] = q.Join("k", "key", 1, sec)
	}
	each := (heap() - before) / waiters
	t.Logf("%.0f bytes a waiter", each)
	if each > 200 {
		t.Errorf("%.0f bytes a waiter, want 200 at most", each)
	}
	runtime.KeepAlive(list)
}

// BenchmarkServe is one admission from queues of several lengths: its time does
// not depend on them.
func BenchmarkServe(b *testing.B) {
	for _, waiters := range []int{10, 1000, 100_000} {
		b.Run(fmt.Sprintf("waiters=%d", waiters), func(b *testing.B) {
			q, bucket := New(func(string) {}), &bucket{rate: 1e9, burst: 1, at: sec}
			for range waiters {
				q.Join("k", "key", 1, sec)
			}
			now := sec
			for b.Loop() {
				now++
				bucket.taken = bucket.taken[:0]
				q.Join("k", "key", 1, now)
				q.Serve("k", bucket, now)
			}
		})
	}
}
