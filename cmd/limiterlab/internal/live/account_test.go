package live

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/trace"
)

func ms(n int) time.Duration { return time.Duration(n) * time.Millisecond }

// calls are n calls of one process, evenly over a span, none of them admitted.
func calls(process int32, from, to time.Duration, n int) []trace.Request {
	requests := make([]trace.Request, n)
	for i := range requests {
		requests[i] = trace.Request{At: from + (to-from)*time.Duration(i)/time.Duration(n), Process: process, Cost: 1}
	}
	return requests
}

// TestPoliciesOfAnOutage has two processes ask for 200/s each under 100/s burst
// 10, with Redis away in the third second.
func TestPoliciesOfAnOutage(t *testing.T) {
	a := newAccount(limiter.Limit{Rate: 100, Burst: 10})
	a.outage(ms(2000), true)
	a.outage(ms(3000), false)
	for process := range int32(2) {
		requests := calls(process, 0, ms(4000), 800)
		for i := range requests {
			requests[i].Admitted = i%4 == 0
		}
		a.add(requests)
	}
	a.advance(ms(4000))
	first, seconds := a.complete(0)
	require.Equal(t, 0, first)
	require.Len(t, seconds, 4)
	for i, want := range []Tally{
		{Asked: 400, Admitted: 100, Open: 109, Closed: 109, Private: 109},
		{Asked: 400, Admitted: 100, Open: 100, Closed: 100, Private: 100},
		{Asked: 400, Admitted: 100, Open: 400, Closed: 0, Private: 219}, // each its burst of 10 and 100/s
		{Asked: 400, Admitted: 100, Open: 109, Closed: 109, Private: 109},
	} {
		got := seconds[i].Tally
		for _, line := range []struct {
			name      string
			got, want int
		}{
			{"asked", got.Asked, want.Asked},
			{"admitted", got.Admitted, want.Admitted},
			{"open", got.Open, want.Open},
			{"closed", got.Closed, want.Closed},
			{"private", got.Private, want.Private},
		} {
			if line.got < line.want-1 || line.got > line.want+1 { // where a token falls on the edge of a second
				t.Errorf("second %d: %s %d, want %d", i, line.name, line.got, line.want)
			}
		}
	}
	require.Equal(t, seconds[2].Tally, a.outages[0].Tally)
	require.Equal(t, map[int32]int{0: 200, 1: 200}, seconds[2].asked)
	require.Equal(t, map[int32]int{0: 50, 1: 50}, seconds[2].admitted)
}

// TestOrderOfReportsDoesNotMatter gives the same requests at once, and in
// parts, one process long after the other.
func TestOrderOfReportsDoesNotMatter(t *testing.T) {
	limit := limiter.Limit{Rate: 100, Burst: 10}
	one, two := calls(0, 0, ms(3000), 700), calls(1, ms(3), ms(3000), 500)
	at, parts := newAccount(limit), newAccount(limit)
	at.add(one)
	at.add(two)
	at.advance(ms(3000))
	parts.add(two[:400])
	parts.advance(0)
	parts.add(one[:350])
	parts.advance(ms(1400))
	parts.add(two[400:])
	parts.add(one[350:])
	parts.advance(ms(1200)) // never back
	parts.advance(ms(3000))
	_, want := at.complete(0)
	_, got := parts.complete(0)
	require.Equal(t, want, got)
}

func TestLateRequestsCountWhenTheyCome(t *testing.T) {
	a := newAccount(limiter.Limit{Rate: 100, Burst: 10})
	a.advance(ms(1500))
	a.add(calls(0, ms(100), ms(200), 3))
	a.advance(ms(2100))
	_, seconds := a.complete(0)
	require.Equal(t, []int{0, 3}, []int{seconds[0].Asked, seconds[1].Asked})
}

func TestHistoryIsBounded(t *testing.T) {
	a := newAccount(limiter.Limit{Rate: 100, Burst: 10})
	const end = 3 * history
	for at := time.Duration(0); at < end; at += time.Second {
		a.outage(at, true)
		a.advance(at + ms(500))
		a.outage(at+ms(500), false)
		a.add(calls(0, at+ms(500), at+time.Second, 1))
		a.advance(at + time.Second)
	}
	kept := 2 * int(history/time.Second) // half seconds
	first, slices := a.complete(0)
	require.Equal(t, 2*kept, first)
	require.Len(t, slices, kept)
	require.LessOrEqual(t, len(a.outages), kept)
	require.Empty(t, a.pending)
	for from, want := range map[int]int{0: kept, 3*kept - 2: 2, 3 * kept: 0, 9 * kept: 0, -5: kept} {
		first, slices := a.complete(from)
		if len(slices) != want || first != 3*kept-want {
			t.Errorf("complete(%d) = %d slices from %d, want %d from %d", from, len(slices), first, want, 3*kept-want)
		}
	}
}

// TestSlicesEndAtTheEdgesOfAnOutage has Redis away from 2.4 s to 3.3 s: each
// slice lies as a whole inside or outside, so that fail closed admits nothing
// from the edge on, not from the next second on.
func TestSlicesEndAtTheEdgesOfAnOutage(t *testing.T) {
	a := newAccount(limiter.Limit{Rate: 100, Burst: 10})
	advance := func(from, to int) {
		a.add(calls(0, ms(from), ms(to), (to-from)/2))
		a.advance(ms(to))
	}
	advance(0, 2350)
	a.outage(ms(2400), true)
	advance(2350, 3250)
	a.outage(ms(3300), false)
	advance(3250, 5000)
	_, slices := a.complete(0)
	var edges []time.Duration
	for _, s := range slices {
		edges = append(edges, s.To)
		rate := float64(s.Closed) / s.Length().Seconds()
		if inside := s.From >= ms(2400) && s.To <= ms(3300); inside != (rate == 0) {
			t.Errorf("fail closed admits %.0f/s from %v to %v", rate, s.From, s.To)
		}
	}
	require.Equal(t, []time.Duration{ms(1000), ms(2000), ms(2400), ms(3000), ms(3300), ms(4000), ms(5000)}, edges)
}

// TestWaitingIsCountedBySliceAndOutage has two processes whose reports come
// unevenly, with Redis away from 1.5 s to 3 s.
func TestWaitingIsCountedBySliceAndOutage(t *testing.T) {
	a := newAccount(limiter.Limit{Rate: 100, Burst: 10})
	level := func(from, to, callers int) {
		a.wait(trace.Level{Span: trace.Span{From: ms(from), To: ms(to)}, Callers: callers})
	}
	a.outage(ms(1500), true)
	a.outage(ms(3000), false)
	level(0, 1200, 10)
	a.advance(ms(300))
	level(300, 2500, 4)
	a.advance(ms(1200))
	level(1200, 3500, 20)
	level(2500, 3500, 8)
	level(900, 1100, 50) // late: counted already
	a.advance(ms(3500))
	_, seconds := a.complete(0)
	var got []float64
	for _, s := range seconds {
		got = append(got, s.Waiting)
	}
	require.InDeltaSlice(t, []float64{10 + 4*.7, 10*.2 + 20*.3 + 4*.5, 20*.5 + 4*.5, 20 + 4*.5 + 8*.5}, got, 1e-9)
	require.InDelta(t, 20*1.5+4*1+8*.5, a.outages[0].Waiting, 1e-9)
	require.Empty(t, a.levels)
}
