package limiter

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/time/rate"
	"pgregory.net/rapid"

	"github.com/seed-e56e777b/limiter/internal/longtest"
)

// joint is a decision on several limits, as a test asks for it.
type joint struct {
	pause time.Duration // before it
	parts []asked
}

type asked struct{ limiter, key, n int }

// drawJoints draws up to three limits, and a schedule of decisions on three keys of each.
func drawJoints(t *rapid.T) (limits []Limit, schedule []joint) {
	limits = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Limit {
		return Limit{Rate: rate.Limit(rapid.Float64Range(0.01, 1000).Draw(t, "rate")), Burst: rapid.IntRange(1, 20).Draw(t, "burst")}
	}), 1, 3).Draw(t, "limits")
	part := rapid.Custom(func(t *rapid.T) asked {
		return asked{
			rapid.IntRange(0, len(limits)-1).Draw(t, "limiter"), rapid.IntRange(0, 2).Draw(t, "key"), rapid.IntRange(-1, 8).Draw(t, "n"),
		}
	})
	schedule = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) joint {
		return joint{
			time.Duration(rapid.Int64Range(0, int64(time.Second)).Draw(t, "pause")), rapid.SliceOfN(part, 0, 6).Draw(t, "parts"),
		}
	}), 1, 60).Draw(t, "schedule")
	return limits, schedule
}

// reference is an x/time/rate limiter for each pair of limit and key.
type reference struct {
	limits   []Limit
	limiters map[asked]*rate.Limiter // n = 0
}

// sums is what a decision asks of each, in the order of first mention.
func (r *reference) sums(parts []asked) (order []asked, sums map[asked]int) {
	sums = map[asked]int{}
	for _, p := range parts {
		of := asked{p.limiter, p.key, 0}
		if r.limiters[of] == nil {
			lim := r.limits[p.limiter]
			r.limiters[of] = rate.NewLimiter(lim.Rate, lim.Burst)
		}
		if !slices.Contains(order, of) {
			order = append(order, of)
		}
		sums[of] += max(0, p.n)
	}
	return order, sums
}

// allow decides the slow way: look at all, then take from all.
func (r *reference) allow(now time.Time, parts []asked) (ok, certain bool) {
	order, sums := r.sums(parts)
	ok = true
	for _, of := range order {
		l, n := r.limiters[of], sums[of]
		if full := l.TokensAt(now) == float64(l.Burst()); !full && n <= l.Burst() && edge(l, now, n, 2) {
			return false, false
		}
		ok = ok && n <= l.Burst() && l.TokensAt(now) >= float64(n)
	}
	for _, of := range order {
		if ok && !r.limiters[of].AllowN(now, sums[of]) {
			panic("the reference takes what it does not have")
		}
	}
	return ok, true
}

// TestAllPartsOrNone: decisions on several limits are those of looking at an
// x/time/rate limiter for each, and taking from all only if none denies. So a
// denial consumes nothing, and costs of one key add up.
func TestAllPartsOrNone(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		limits, schedule := drawJoints(rt)
		var err error
		synctest.Test(t, func(t *testing.T) { err = playJoints(t, limits, schedule) })
		if err != nil {
			rt.Fatal(err)
		}
	})
}

func playJoints(t *testing.T, limits []Limit, schedule []joint) error {
	var limiters []*Limiter
	for _, lim := range limits {
		limiters = append(limiters, newTestLocal(t, lim))
		time.Sleep(time.Second) // each has a clock of its own
	}
	ref := &reference{limits: limits, limiters: map[asked]*rate.Limiter{}}
	for i, j := range schedule {
		time.Sleep(j.pause)
		var parts []Part
		for _, p := range j.parts {
			parts = append(parts, limiters[p.limiter].Part(fmt.Sprint("key", p.key), p.n))
		}
		want, certain := ref.allow(time.Now(), j.parts)
		if !certain {
			continue // within 2 ns of the edge either answer is right
		}
		r, tightest := TakeAll(parts...)
		if r.Allowed != want {
			return fmt.Errorf("step %d, %+v: Allowed = %v, want %v", i, j, r.Allowed, want)
		}
		if err := ref.checkTightest(j.parts, r, tightest); err != nil {
			return fmt.Errorf("step %d, %+v: %w", i, j, err)
		}
	}
	return nil
}

// checkTightest: the part that is told is one that denies for longest, or one
// that leaves the fewest further calls.
func (r *reference) checkTightest(parts []asked, got Result, tightest int) error {
	if len(parts) == 0 {
		if tightest != -1 {
			return fmt.Errorf("tightest of none is %d", tightest)
		}
		return nil
	}
	order, sums := r.sums(parts)
	now := time.Now()
	left := func(of asked) float64 {
		l, n := r.limiters[of], float64(sums[of])
		if got.Allowed {
			return math.Floor(math.Max(0, math.Floor(l.TokensAt(now)+1e-6)) / max(1, n))
		}
		if int(n) > l.Burst() {
			return math.Inf(-1)
		}
		return min(0, l.TokensAt(now)-n) / float64(l.Limit())
	}
	least := math.Inf(1)
	for _, of := range order {
		least = min(least, left(of))
	}
	of := asked{parts[tightest].limiter, parts[tightest].key, 0}
	if have := left(of); have > least+1e-6 {
		return fmt.Errorf("tightest is part %d, which has %v left; another has %v", tightest, have, least)
	}
	if want := r.limits[of.limiter]; got.Limit != want {
		return fmt.Errorf("the result's limit is %v, that of part %d is %v", got.Limit, tightest, want)
	}
	return nil
}

// TestPartsOfDenialsConsumeNothing: nothing is taken, counted or told to the
// fleet for parts that would have admitted; the part that denied counts an
// attempt.
func TestPartsOfDenialsConsumeNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wide, _, f := tapped(t, Config{Limit: Per(100, time.Hour)})
		defer f.close()
		narrow, _, g := tapped(t, Config{Limit: Per(1, time.Hour)})
		defer g.close()
		parts := []Part{wide.Part("all", 2), narrow.Part("user", 1)}
		require.True(t, AllowAll(parts...))
		for range 50 {
			r, i := TakeAll(parts...)
			if r.Allowed || i != 1 || r.Limit != Per(1, time.Hour) || r.RetryAfter <= 0 {
				t.Fatalf("TakeAll = %+v, %d", r, i)
			}
		}
		for _, tc := range []struct {
			l         *Limiter
			key       string
			asked     int64
			remaining int
			stats     Stats
		}{
			{wide, "all", 2, 98, Stats{Allowed: 1}},
			{narrow, "user", 51, 0, Stats{Allowed: 1, Denied: 50}},
		} {
			if got := tc.l.Peek(tc.key).Remaining; got != tc.remaining {
				t.Errorf("%s: %d remaining, want %d", tc.key, got, tc.remaining)
			}
			if s := tc.l.Stats(); s.Allowed != tc.stats.Allowed || s.Denied != tc.stats.Denied {
				t.Errorf("%s: %d allowed, %d denied, want %+v", tc.key, s.Allowed, s.Denied, tc.stats)
			}
			a := flushed(tc.l, tc.key).account
			if a.Attempts != tc.asked {
				t.Errorf("%s: demand of %d tokens, want %d", tc.key, a.Attempts, tc.asked)
			}
		}
	})
}

// TestPartsOfFleets: what several limiters admit together is charged to each
// in Redis, and a denial to none.
func TestPartsOfFleets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		users, _, f := tapped(t, Config{Limit: Per(3, 1000*time.Hour)})
		defer f.close()
		everybody, _, g := tapped(t, Config{Limit: Per(10, 1000*time.Hour)})
		defer g.close()
		for user := range 4 {
			for range 5 {
				AllowAll(users.Part(fmt.Sprint(user), 1), everybody.Part("", 1))
			}
			time.Sleep(time.Second)
		}
		require.NoError(t, syncNow(users))
		require.NoError(t, syncNow(everybody))
		for _, tc := range []struct {
			f    *fleet
			key  string
			rate rate.Limit
			want int // tokens charged
		}{
			{f, "0", Per(3, 1000*time.Hour).Rate, 3},
			{f, "2", Per(3, 1000*time.Hour).Rate, 3},
			{f, "3", Per(3, 1000*time.Hour).Rate, 1},
			{g, "", Per(10, 1000*time.Hour).Rate, 10},
		} {
			if got := int(math.Round(tc.f.ToGo(tc.key).Seconds() * float64(tc.rate))); got != tc.want {
				t.Errorf("%q: %d tokens charged, want %d", tc.key, got, tc.want)
			}
		}
	})
}

// TestPartsInAnyOrder: goroutines that name the same keys in opposite orders
// neither wait for each other for ever nor take more than there is, while
// limits change, keys are evicted and shards are shared.
func TestPartsInAnyOrder(t *testing.T) {
	onAllCores(t)
	const goroutines = 8
	burst := longtest.Choose(1500, 5000, 5000)
	each := burst * 3 / 5
	one, err := New(Config{Limit: Limit{Rate: 1e-9, Burst: burst}, MaxKeys: 1 << 14})
	require.NoError(t, err)
	other, err := New(Config{Limit: Limit{Rate: 1e-9, Burst: burst}, LimitFor: func(string) (Limit, bool) { return Limit{}, false }})
	require.NoError(t, err)
	tiny, err := New(Config{Limit: Limit{Rate: rate.Inf}, MaxKeys: 1})
	require.NoError(t, err)
	parts := []Part{one.Part("a", 1), other.Part("a", 1), one.Part("b", 1), other.Part("c", 2), tiny.Part("x", 1), tiny.Part("y", 1)}
	var wg sync.WaitGroup
	admitted := make([]int, goroutines)
	for g := range goroutines {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(1, uint64(g)))
			mine := slices.Clone(parts)
			for range each {
				rng.Shuffle(len(mine), func(i, j int) { mine[i], mine[j] = mine[j], mine[i] })
				if AllowAll(mine...) {
					admitted[g]++
				}
			}
		})
	}
	wg.Go(func() {
		for range 200 {
			other.Reload()
			_ = one.SetLimit(Limit{Rate: 1e-9, Burst: burst})
		}
	})
	wg.Wait()
	sum := 0
	for _, n := range admitted {
		sum += n
	}
	if sum != burst/2 {
		t.Errorf("%d admitted, want %d: what the tightest part has", sum, burst/2)
	}
	for _, tc := range []struct {
		l    *Limiter
		key  string
		want int
	}{{one, "a", burst / 2}, {other, "a", burst / 2}, {one, "b", burst / 2}, {other, "c", 0}} {
		if got := tc.l.Peek(tc.key).Remaining; got != tc.want {
			t.Errorf("%q: %d remaining, want %d", tc.key, got, tc.want)
		}
	}
}

// TestPartsNeedNotFit: more keys than a limiter holds are decided all the same.
func TestPartsNeedNotFit(t *testing.T) {
	l, err := New(Config{Limit: Per(2, time.Hour), MaxKeys: 1})
	require.NoError(t, err)
	if !AllowAll(l.Part("a", 1), l.Part("b", 1), l.Part("a", 1), l.Part("c", 1)) {
		t.Error("full buckets deny")
	}
	if AllowAll(l.Part("a", 2), l.Part("b", 1), l.Part("a", 1)) {
		t.Error("costs of one key do not add up when it is evicted in between")
	}
	if n := l.Stats().Keys; n != 1 {
		t.Errorf("%d keys resident, want 1", n)
	}
	l, err = New(Config{Limit: Per(9, 1000*time.Hour), MaxKeys: 1})
	require.NoError(t, err)
	es, r, _ := EstimateAll(l.Part("a", 3), l.Part("b", 4), l.Part("c", 5))
	require.True(t, r.Allowed)
	for i, want := range []int{6, 5, 4} {
		require.Equal(t, want, es[i].Result().Remaining)
		es[i].Settle(2)
	}
	for _, key := range []string{"a", "b", "c"} {
		require.InDelta(t, 7, l.Peek(key).Remaining, 1, key) // remembered to a millisecond
	}
}

// TestPartsOfChangingLimits: a limit that has changed while it was asked for is
// asked for again.
// TestPartsThatDontFitAreRemembered: a key that is not resident, since its decision
// is on more keys than are, is limited all the same.
func TestPartsThatDontFitAreRemembered(t *testing.T) {
	l, err := New(Config{Limit: Per(2, time.Hour), LimitFor: func(key string) (Limit, bool) { return Per(1000, time.Hour), key == "c" }, MaxKeys: 1})
	require.NoError(t, err)
	for _, order := range [][]string{{"a", "c"}, {"c", "b"}} {
		admitted := 0
		for range 10 {
			if AllowAll(l.Part(order[0], 1), l.Part(order[1], 1)) {
				admitted++
			}
		}
		require.True(t, admitted == 1 || admitted == 2, "%d of 2, %v", admitted, order) // what is remembered is rounded by a millisecond
	}
}

// TestPartsThatDontFitAreTold: what is taken of a key that is not resident is told in the
// next round.
func TestPartsThatDontFitAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const fit, keys = 10, 12
		f := newFleet(t, 1, Config{Limit: Per(1000, time.Hour), MaxKeys: fit})
		defer f.close()
		a := f.members[0]
		until(t, "in step", func() bool { return a.Status().State == Synced })
		var parts []Part
		for i := range keys {
			parts = append(parts, a.Part(strconv.Itoa(i), 3))
		}
		if !AllowAll(parts...) {
			t.Fatal("denied, of full buckets")
		}
		time.Sleep(time.Second)
		for i := range keys - fit {
			if got, want := f.ToGo(strconv.Itoa(i)), 3*time.Hour/1000; got < want-time.Second || got > want {
				t.Errorf("%d is %v from full in the fleet, want %v", i, got, want)
			}
		}
	})
}

func TestPartsOfChangingLimits(t *testing.T) {
	var l *Limiter
	asks := 0
	l, err := New(Config{Limit: Per(1, time.Hour), LimitFor: func(string) (Limit, bool) {
		if asks++; asks == 1 {
			l.Reload()
		}
		return Per(asks, time.Hour), true
	}})
	require.NoError(t, err)
	if r, _ := TakeAll(l.Part("k", 2)); !r.Allowed || r.Limit != Per(2, time.Hour) || asks != 2 {
		t.Errorf("%+v after %d asks; want the limit of the second", r, asks)
	}
}

// TestPartsAllocateNothing: up to four parts, of keys of any kind, allowed,
// denied and waited for.
func TestPartsAllocateNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newTestLocal(t, Limit{Rate: 1e9, Burst: 1e6})
		b, _, f := tapped(t, Config{Limit: Limit{Rate: 1e9, Burst: 1e6}})
		defer f.close()
		long := strings.Repeat("k", 100)
		for name, do := range map[string]func(){
			"AllowAll of 2": func() { AllowAll(a.Part("k", 1), b.Part("k", 1)) },
			"TakeAll of 4":  func() { TakeAll(a.Part("k", 1), b.Part(long, 1), b.Part("k", 1), b.Part("k", 2)) },
			"denied":        func() { AllowAll(a.Part(long, 1), b.Part("k", 1e7)) },
			"WaitAll of 4":  func() { _ = WaitAll(t.Context(), a.Part("k", 1), b.Part(long, 1), b.Part("k", 1), a.Part(long, 2)) },
		} {
			do()
			if n := testing.AllocsPerRun(100, do); n != 0 {
				t.Errorf("%s allocates %v times", name, n)
			}
		}
	})
}

// TestWaitAll: it returns when the last part may be used; where that would be
// never, too late, or is called off, nothing is consumed anywhere.
func TestWaitAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fast, slow := newTestLocal(t, Limit{Rate: 10, Burst: 5}), newTestLocal(t, Limit{Rate: 1, Burst: 2})
		parts := []Part{fast.Part("k", 1), slow.Part("k", 1)}
		begin := time.Now()
		for range 4 {
			require.NoError(t, WaitAll(t.Context(), parts...))
		}
		if d := time.Since(begin); d != 2*time.Second {
			t.Errorf("4 waits on 1/s burst 2 took %v, want 2s", d)
		}
		untouched := func(what string) {
			t.Helper()
			if r := fast.Peek("k"); r.Remaining != 5 {
				t.Errorf("%s: the fast part has %d left, want 5", what, r.Remaining)
			}
			if r := slow.Peek("k"); r.ResetAfter != 2*time.Second {
				t.Errorf("%s: the slow part is full in %v, want 2s", what, r.ResetAfter)
			}
		}
		if err := WaitAll(t.Context(), fast.Part("k", 1), slow.Part("k", 3)); !errors.Is(err, ErrExceedsBurst) {
			t.Errorf("above the burst: %v", err)
		}
		fast.Refund("k", 5)
		untouched("above the burst")

		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		if err := WaitAll(ctx, parts...); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("too late: %v", err)
		}
		untouched("too late")

		ctx, cancel = context.WithCancel(t.Context())
		time.AfterFunc(0, cancel)
		if err := WaitAll(ctx, parts...); !errors.Is(err, context.Canceled) {
			t.Errorf("called off: %v", err)
		}
		untouched("called off")
		if err := WaitAll(ctx, parts...); !errors.Is(err, context.Canceled) {
			t.Errorf("called off before: %v", err)
		}
		untouched("called off before")
		require.NoError(t, WaitAll(t.Context()))
	})
}

// TestWaitAllCalledOffLate: a part whose time had come while another was still
// waited for is given back too, and reaches the fleet as given back.
func TestWaitAllCalledOffLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shared, _, f := tapped(t, Config{Limit: Limit{Rate: 0.001, Burst: 10}})
		defer f.close()
		slow := newTestLocal(t, Limit{Rate: 0.001, Burst: 1})
		require.True(t, slow.Allow("k"))
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(5*time.Second, cancel)
		require.ErrorIs(t, WaitAll(ctx, shared.Part("k", 4), slow.Part("k", 1)), context.Canceled)
		require.NoError(t, syncNow(shared))
		if r := shared.Peek("k"); r.Remaining != 10 {
			t.Errorf("%d remaining, want 10", r.Remaining)
		}
		if r := slow.Peek("k"); r.ResetAfter > 1000*time.Second {
			t.Errorf("the slow part is full in %v, want less than 1000s", r.ResetAfter)
		}
	})
}

// TestWaitAllCalledOffEarly: a wait on several that is called off leaves nothing
// behind, and keeps a reservation that was made behind it where it was.
func TestWaitAllCalledOffEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, second := newTestLocal(t, Limit{Rate: 0.1, Burst: 1}), newTestLocal(t, Limit{Rate: 1, Burst: 1})
		require.True(t, AllowAll(first.Part("k", 1), second.Part("k", 1)))
		ctx, cancel := context.WithCancel(t.Context())
		var waiter sync.WaitGroup
		waiter.Go(func() {
			if err := WaitAll(ctx, first.Part("k", 1), second.Part("k", 1)); !errors.Is(err, context.Canceled) {
				t.Errorf("WaitAll: %v", err)
			}
		})
		synctest.Wait()
		r := second.Reserve("k")
		if r.Delay() != 2*time.Second {
			t.Errorf("delay %v, want 2s", r.Delay())
		}
		cancel()
		waiter.Wait()
		if got := r.Delay(); got != 2*time.Second {
			t.Errorf("after the wait was called off the delay is %v, want 2s", got)
		}
		for name, l := range map[string]*Limiter{"first": first, "second": second} {
			if n := l.Stats().Waiting; n != 0 {
				t.Errorf("%d wait for the %s part", n, name)
			}
		}
		if got := second.Peek("k").ResetAfter; got != 2*time.Second {
			t.Errorf("the second part is full in %v, want 2s: what is reserved alone", got)
		}
		if got := first.Peek("k").ResetAfter; got != 10*time.Second {
			t.Errorf("the first part is full in %v, want 10s", got)
		}
	})
}

// BenchmarkParts is a decision on several keys that all admit.
func BenchmarkParts(b *testing.B) {
	for _, n := range []int{1, 2, 3, 4} {
		limiters := []*Limiter{benchFleet(b, Config{Limit: many}), benchFleet(b, Config{Limit: many}), benchFleet(b, Config{Limit: many})}
		var parts []Part
		for i := range n {
			parts = append(parts, limiters[i%3].Part(fmt.Sprint("user:0000000", i), 1))
		}
		b.Run(fmt.Sprintf("parts=%d/serial", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				AllowAll(parts...)
			}
		})
		b.Run(fmt.Sprintf("parts=%d/parallel", n), func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					AllowAll(parts...)
				}
			})
		})
	}
	l := benchFleet(b, Config{Limit: many})
	b.Run("one after the other=2/serial", func(b *testing.B) {
		for b.Loop() {
			_ = l.Allow("user:00000000") && l.Allow("user:00000001")
		}
	})
}

// TestEstimatesAreConserved: of every estimate, its actual cost is gone after the first
// Settle, and the estimate before it, whatever is settled again, by whichever copy.
func TestEstimatesAreConserved(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		const burst = 1 << 20
		l, err := New(Config{Limit: Limit{Rate: 1e-9, Burst: burst}})
		require.NoError(rt, err)
		type open struct {
			Estimate
			paid    int
			settled bool
		}
		var all []*open
		steps := rapid.SliceOfN(rapid.IntRange(0, 9), 1, 60).Draw(rt, "steps")
		for _, step := range steps {
			n := rapid.IntRange(-2, 1000).Draw(rt, "n")
			switch {
			case step < 3:
				e, r := l.Estimate("k", n)
				require.True(rt, r.Allowed)
				all = append(all, &open{Estimate: e, paid: max(0, n)})
			case step < 5:
				es, r, _ := EstimateAll(l.Part("other", 1), l.Part("k", n), l.Part("k", 2*n))
				require.True(rt, r.Allowed)
				all = append(all, &open{Estimate: es[1], paid: max(0, n)}, &open{Estimate: es[2], paid: max(0, 2*n)})
			case len(all) > 0:
				o := all[rapid.IntRange(0, len(all)-1).Draw(rt, "which")]
				o.Settle(n)
				if !o.settled {
					o.paid, o.settled = max(0, n), true
				}
			}
			sum := 0
			for _, o := range all {
				sum += o.paid
			}
			if got := burst - l.Peek("k").Remaining; got != sum {
				rt.Fatalf("%d tokens are gone, want %d", got, sum)
			}
		}
	})
}

// TestEstimatesAreChargesAndRefunds: on random schedules, with limits that change and
// resets, a limiter whose estimates are settled is equal to one that takes the estimate
// and then charges or refunds the difference.
func TestEstimatesAreChargesAndRefunds(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for i := range longtest.Choose(20, 100, 1000) {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, uint64(i)))
			ours, twin := newTestLocal(t, Limit{Rate: 20, Burst: 50}), newTestLocal(t, Limit{Rate: 20, Burst: 50})
			var open []func(actual int) // settles one in both
			for range 300 {
				time.Sleep(time.Duration(rng.ExpFloat64() * 2e8))
				n, key := rng.IntN(60), strconv.Itoa(rng.IntN(2))
				switch op := rng.IntN(20); {
				case op < 8:
					e, got := ours.Estimate(key, n)
					want := twin.TakeN(key, n)
					require.Equal(t, want, got)
					open = append(open, func(actual int) {
						e.Settle(actual)
						if want.Allowed && want.Remaining != math.MaxInt {
							twin.Charge(key, actual-n)
							twin.Refund(key, n-actual)
						}
					})
				case op < 18 && len(open) > 0:
					last := len(open) - 1
					i := rng.IntN(len(open))
					open[i](n)
					open[i] = open[last]
					open = open[:last]
				case op == 18:
					lim := []Limit{{}, {Rate: rate.Inf}, {Rate: 10, Burst: 20}, {Rate: 20, Burst: 50}}[rng.IntN(4)]
					require.NoError(t, ours.SetLimit(lim))
					require.NoError(t, twin.SetLimit(lim))
				case op == 19:
					require.NoError(t, ours.Reset(t.Context(), key))
					require.NoError(t, twin.Reset(t.Context(), key))
				}
				require.Equal(t, twin.Peek(key), ours.Peek(key))
			}
		})
		if t.Failed() {
			t.Fatalf("schedule %d of seed %d", i, seed)
		}
	}
}

// TestSettleByWhatHappenedMeanwhile: 10 tokens at a burst of 100 were estimated, and then
// something happens to the key; the tokens left after a Settle of 30 and of 4.
func TestSettleByWhatHappenedMeanwhile(t *testing.T) {
	slow := func(burst int) Limit { return Limit{Rate: 1e-4, Burst: burst} }
	limit := func(lim Limit) func(*Limiter) {
		return func(l *Limiter) { _ = l.SetLimit(lim) }
	}
	for name, tc := range map[string]struct {
		before, meanwhile, after func(*Limiter)
		more, less               int
	}{
		"nothing":                       {more: 70, less: 96},
		"a smaller limit":               {meanwhile: limit(slow(50)), more: 30, less: 50}, // 50 left of 90
		"a smaller limit, and back":     {meanwhile: func(l *Limiter) { limit(slow(50))(l); limit(slow(100))(l) }, more: 30, less: 56},
		"a larger limit":                {meanwhile: limit(slow(1000)), more: 70, less: 96},
		"no limit":                      {meanwhile: limit(Limit{Rate: rate.Inf}), after: limit(slow(100)), more: 90, less: 90},
		"everything denied":             {meanwhile: limit(Limit{}), after: limit(slow(100)), more: 70, less: 96},
		"no limit before":               {before: limit(Limit{Rate: rate.Inf}), meanwhile: limit(slow(100)), more: 100, less: 100},
		"a Reset":                       {meanwhile: func(l *Limiter) { _ = l.Reset(context.Background(), "k") }, more: 80, less: 100},
		"a Reset and the whole burst":   {meanwhile: func(l *Limiter) { _ = l.Reset(context.Background(), "k"); l.AllowN("k", 100) }, more: -20, less: 6},
		"the rest of the burst":         {meanwhile: func(l *Limiter) { l.AllowN("k", 90) }, more: -20, less: 6},
		"an eviction":                   {meanwhile: func(l *Limiter) { l.Allow("a"); l.Allow("b") }, more: 70, less: 96},
		"the end of the limiter":        {meanwhile: func(l *Limiter) { _ = l.Close() }, more: 70, less: 96},
		"another estimate of its place": {meanwhile: func(l *Limiter) { l.Estimate("k", 10) }, more: 60, less: 86},
	} {
		for actual, want := range map[int]int{30: tc.more, 4: tc.less} {
			l, err := New(Config{Limit: slow(100), MaxKeys: 1})
			require.NoError(t, err)
			for _, do := range []func(*Limiter){tc.before, func(l *Limiter) {
				e, r := l.Estimate("k", 10)
				require.True(t, r.Allowed)
				require.Equal(t, r, e.Result())
				if tc.meanwhile != nil {
					tc.meanwhile(l)
				}
				e.Settle(actual)
				e.Settle(50)
			}, tc.after} {
				if do != nil {
					do(l)
				}
			}
			got := l.Peek("k").Remaining
			if want < 0 { // in debt: seen once as much is given back
				l.Refund("k", 50-want)
				got = l.Peek("k").Remaining - 50 + want
			}
			if rounded := name == "an eviction" && got == want-1; got != want && !rounded { // remembered to a millisecond
				t.Errorf("%s: %d tokens left after a Settle of %d, want %d", name, got, actual, want)
			}
		}
	}
}

// TestEstimatesThatTookNothing: there is nothing to settle of one that was denied, above
// the burst too, let through in shadow mode, or never made.
func TestEstimatesThatTookNothing(t *testing.T) {
	l, shadow := newTestLocal(t, Per(10, 1000*time.Hour)), newShadow(t, Per(10, 1000*time.Hour))
	above, r := l.Estimate("k", 11)
	require.False(t, r.Allowed)
	require.Equal(t, rate.InfDuration, r.RetryAfter)
	require.True(t, l.AllowN("k", 8))
	denied, r := l.Estimate("k", 3)
	require.False(t, r.Allowed)
	through, r := shadow.Estimate("k", 11)
	require.True(t, r.Allowed && r.Shadow)
	for _, e := range []Estimate{above, denied, through, {}} {
		for _, actual := range []int{0, 5, math.MaxInt, math.MinInt} {
			e.Settle(actual)
		}
	}
	require.Equal(t, 2, l.Peek("k").Remaining)
	require.Equal(t, 10, shadow.Peek("k").Remaining)
	fits, r := shadow.Estimate("k", 4) // within the limit: taken, and settled
	require.True(t, r.Allowed && !r.Shadow)
	fits.Settle(7)
	require.Equal(t, 3, shadow.Peek("k").Remaining)
	nothing, _ := l.Estimate("k", -3)
	nothing.Settle(1)
	require.Equal(t, 1, l.Peek("k").Remaining)
	negative, _ := l.Estimate("k", 1)
	negative.Settle(math.MinInt)
	require.Equal(t, 1, l.Peek("k").Remaining, "a negative cost counts as 0")
	absurd, _ := l.Estimate("k", 1)
	absurd.Settle(math.MaxInt)
	require.Greater(t, l.Peek("k").ResetAfter, 1e6*time.Hour)
}

// TestEstimateIsSettledOnce: by copies of it, on several goroutines at once.
func TestEstimateIsSettledOnce(t *testing.T) {
	onAllCores(t)
	const estimates, copies, paid = 500, 4, 7
	l := newTestLocal(t, Limit{Rate: 1e-9, Burst: 10 * estimates})
	for range estimates / 2 {
		e, _ := l.Estimate("k", 10)
		es, _, _ := EstimateAll(l.Part("k", 10), l.Part("other", 1))
		var begin, done sync.WaitGroup
		begin.Add(copies)
		for range copies {
			mine, also := e, es[0]
			done.Go(func() {
				begin.Done()
				begin.Wait()
				mine.Settle(paid)
				also.Settle(paid)
			})
		}
		done.Wait()
	}
	require.Equal(t, 10*estimates-paid*estimates, l.Peek("k").Remaining)
}

// TestEstimatesOfFleets: the fleet is charged what estimates were settled to, or else the
// estimate, whichever process settles.
func TestEstimatesOfFleets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 2, Config{Limit: Per(1000, 1000*time.Hour)})
		defer f.close()
		a, b := f.members[0], f.members[1]
		until(t, "synced", func() bool { return a.Status().State == Synced && b.Status().State == Synced })
		charged := func(key string, want int) {
			t.Helper()
			require.NoError(t, syncNow(a.Limiter))
			require.NoError(t, syncNow(b.Limiter))
			require.Equal(t, want, int(math.Round(f.ToGo(key).Hours())))
		}
		less, _ := a.Estimate("k", 100)
		more, _ := b.Estimate("k", 100)
		a.Estimate("k", 100) // never settled
		charged("k", 300)
		less.Settle(30)
		more.Settle(150)
		charged("k", 280)
		less.Settle(0)
		at, _ := a.Estimate("k", 50) // settled before the fleet has heard of it
		at.Settle(60)
		charged("k", 340)
		es, _, _ := EstimateAll(a.Part("requests", 1), a.Part("tokens", 500), b.Part("tokens", 100))
		es[1].Settle(90)
		es[2].Settle(10)
		charged("requests", 1)
		charged("tokens", 100)
	})
}

// TestEstimateAllSaysWhichDenied: each part has a result and its name, keys that are named
// twice that of their sum, and a denial leaves nothing to settle.
func TestEstimateAllSaysWhichDenied(t *testing.T) {
	l := newTestLocal(t, Per(10, 1000*time.Hour))
	none, shadow := newTestLocal(t, Limit{Rate: rate.Inf}), newShadow(t, Per(1, time.Hour))
	parts := []Part{
		l.Part("a", 3).Named("user"), none.Part("a", 5), shadow.Part("a", 2).Named("trial"), l.Part("b", 9).Named(`"`), l.Part("a", 1),
	}
	es, r, tightest := EstimateAll(parts...)
	require.True(t, r.Allowed)
	require.Equal(t, 2, tightest)
	var names []string
	var left []int
	for _, e := range es {
		require.True(t, e.Result().Allowed)
		names, left = append(names, e.Name()), append(left, e.Result().Remaining)
	}
	require.Equal(t, []string{"user", "", "trial", `"`, ""}, names)
	require.Equal(t, []int{6, math.MaxInt, 1, 1, 6}, left)
	for _, e := range es {
		e.Settle(4) // one more, nothing, nothing, five less, three more
	}
	require.Equal(t, 2, l.Peek("a").Remaining)
	require.Equal(t, 6, l.Peek("b").Remaining)
	require.Equal(t, 1, shadow.Peek("a").Remaining)

	es, r, tightest = EstimateAll(parts...)
	require.False(t, r.Allowed)
	require.Equal(t, 3, tightest, "9 tokens of b come later than 4 of a")
	require.Equal(t, r, es[3].Result())
	for i, admitted := range []bool{false, true, true, false, false} {
		got := es[i].Result()
		if got.Allowed != admitted || (got.RetryAfter == 0) != admitted {
			t.Errorf("part %d: %+v, want Allowed %v", i, got, admitted)
		}
		es[i].Settle(9)
	}
	require.True(t, es[2].Result().Shadow)
	require.Equal(t, 2, l.Peek("a").Remaining)
	require.Equal(t, 6, l.Peek("b").Remaining)
	if s := shadow.Stats(); s.Allowed != 1 {
		t.Errorf("a part that would have let through counts in a denial: %+v", s)
	}

	es, r, tightest = EstimateAll()
	require.Empty(t, es)
	require.True(t, r.Allowed)
	require.Equal(t, -1, tightest)
}

// TestSettleDuringAHold: less than the estimate shortens no hold, after which the bucket is
// empty; more leaves a debt.
func TestSettleDuringAHold(t *testing.T) {
	for actual, left := range map[int]int{0: 5, 10: 5, 13: 2} {
		synctest.Test(t, func(t *testing.T) {
			l := newTestLocal(t, Limit{Rate: 1, Burst: 100})
			before, _ := l.Estimate("k", 10)
			l.Hold("k", time.Minute)
			before.Settle(actual)
			during, r := l.Estimate("k", 1)
			require.False(t, r.Allowed)
			require.GreaterOrEqual(t, r.RetryAfter, time.Minute)
			during.Settle(100)
			time.Sleep(time.Minute - 1)
			require.False(t, l.AllowN("k", 1))
			time.Sleep(5*time.Second + 1)
			require.Equal(t, left, l.Peek("k").Remaining)
		})
	}
}
