package limiter

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"golang.org/x/time/rate"
	"pgregory.net/rapid"

	"github.com/seed-e56e777b/limiter/internal/keyform"
	"github.com/seed-e56e777b/limiter/internal/longtest"
	"github.com/seed-e56e777b/limiter/internal/simnet"
)

// local returns a limiter without Redis.
func newTestLocal(t testing.TB, lim Limit) *Limiter {
	t.Helper()
	l, err := New(Config{Limit: lim})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestAloneEqualsXTimeRate is the differential test: on random schedules of
// everything that x/time/rate can do, a limiter without Redis decides, delays,
// cancels and changes its limit as it does.
func TestAloneEqualsXTimeRate(t *testing.T) {
	for _, seed := range []uint64{13236283880391535003, rand.Uint64()} { // the first one's changes of limit magnify a rounding
		for i := range longtest.Choose(100, 400, 400) {
			rng := rand.New(rand.NewPCG(seed, uint64(i)))
			synctest.Test(t, func(t *testing.T) { differ(t, rng) })
			if t.Failed() {
				t.Fatalf("schedule %d of seed %d", i, seed)
			}
		}
	}
}

// pair is the same reservation from both.
type pair struct {
	ours   Reservation
	theirs *rate.Reservation
}

func differ(t *testing.T, rng *rand.Rand) {
	lim := Limit{Rate: rate.Limit(math.Pow(10, rng.Float64()*9-3)), Burst: 1 + rng.IntN(50)}
	if rng.IntN(10) == 0 {
		lim.Rate = rate.Inf
	}
	ours, theirs := newTestLocal(t, lim), rate.NewLimiter(lim.Rate, lim.Burst)
	ours.AllowN("k", 0) // a key that nobody has asked for is full by any limit
	var reserved []pair
	slack := time.Duration(2) // both round to nanoseconds, each in its way
	mean := 2e9 / float64(lim.Rate) * float64(lim.Burst) / 3
	for range 300 {
		n := rng.IntN(lim.Burst + 2)
		if rng.IntN(3) > 0 {
			n = 1
		}
		time.Sleep(time.Duration(min(rng.ExpFloat64()*mean*float64(rng.IntN(2)), 1e15)))
		now := time.Now()
		if edge(theirs, now, n, slack) {
			continue // at the edge either answer is right
		}
		switch op := rng.IntN(10); {
		case op < 5:
			if got, want := ours.AllowN("k", n), theirs.AllowN(now, n); got != want {
				t.Fatalf("%v: AllowN(%d) = %v, x/time: %v", lim, n, got, want)
			}
		case op < 7:
			p := pair{ours.ReserveN("k", n), theirs.ReserveN(now, n)}
			same(t, lim, p, now, slack)
			reserved = append(reserved, p)
		case op < 8 && len(reserved) > 0:
			p := &reserved[rng.IntN(len(reserved))]
			before := theirs.TokensAt(now)
			p.ours.Cancel()
			p.theirs.CancelAt(now)
			if theirs.TokensAt(now)-before > float64(p.ours.n)+1e-6 {
				return // x/time gave back more than the reservation had taken: ours doesn't
			}
			p.theirs = &rate.Reservation{} // x/time would give back twice
		case op < 9:
			waitBoth(t, rng, lim, ours, theirs, n, slack)
		case rng.IntN(8) == 0 && lim.Rate != rate.Inf: // else x/time's is full afterwards
			before := lim.Rate
			lim = Limit{Rate: rate.Limit(math.Pow(10, rng.Float64()*9-3)), Burst: 1 + rng.IntN(50)}
			slack = 2 + time.Duration(math.Ceil(float64(slack)*float64(before/lim.Rate))) // as tokens the rounding stays
			mean = 2e9 / float64(lim.Rate) * float64(lim.Burst) / 3
			if err := ours.SetLimit(lim); err != nil {
				t.Fatal(err)
			}
			theirs.SetLimitAt(now, lim.Rate)
			theirs.SetBurstAt(now, lim.Burst)
			reserved = nil // x/time cancels by the limit that was
		}
	}
}

// TestSecondCancelGivesBackNoMore: than was reserved, where an earlier cancellation has let
// decisions happen before the time of the one that is cancelled.
func TestSecondCancelGivesBackNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newTestLocal(t, Limit{Rate: 10, Burst: 10})
		l.AllowN("k", 10)
		ahead, behind := l.ReserveN("k", 10), l.Reserve("k") // in 1 s and 1.1 s
		time.Sleep(500 * time.Millisecond)
		ahead.Cancel() // all but what behind has taken after it: 3 are there
		if !l.Allow("k") {
			t.Error("nothing was given back")
		}
		behind.Cancel()
		if l.AllowN("k", 4) || !l.AllowN("k", 3) {
			t.Errorf("not 3 tokens: %+v", l.Peek("k"))
		}
	})
}

// edge reports whether x/time's level is within slack of what n needs.
func edge(l *rate.Limiter, now time.Time, n int, slack time.Duration) bool {
	missing := (float64(n) - l.TokensAt(now)) / float64(l.Limit()) * 1e9
	return missing > -float64(slack) && missing < float64(slack+1)
}

func same(t *testing.T, lim Limit, p pair, now time.Time, slack time.Duration) {
	t.Helper()
	if p.ours.OK() != p.theirs.OK() {
		t.Fatalf("%v: OK = %v, x/time: %v", lim, p.ours.OK(), p.theirs.OK())
	}
	if got, want := p.ours.Delay(), p.theirs.DelayFrom(now); got != want && (got-want).Abs() > slack && want < math.MaxInt64/4 {
		t.Fatalf("%v: Delay = %v, x/time: %v", lim, got, want)
	}
}

// waitBoth waits in both at once, with a deadline or a cancellation.
func waitBoth(t *testing.T, rng *rand.Rand, lim Limit, ours *Limiter, theirs *rate.Limiter, n int, slack time.Duration) {
	t.Helper()
	d := time.Duration(min(1e15, rng.ExpFloat64()*3e9/float64(lim.Rate)*float64(n+1)))
	ctx, cancel := context.WithTimeout(context.Background(), d)
	if rng.IntN(2) == 0 {
		ctx, cancel = context.WithCancel(context.Background())
		time.AfterFunc(d, cancel)
	}
	defer cancel()
	type outcome struct {
		failed bool
		took   time.Duration
	}
	results := make(chan outcome)
	begin := time.Now()
	go func() { results <- outcome{theirs.WaitN(ctx, n) != nil, time.Since(begin)} }()
	err := ours.WaitN(ctx, "k", n)
	got, want := outcome{err != nil, time.Since(begin)}, <-results
	near := (got.took - want.took).Abs() <= slack
	if (got.took-d).Abs() <= slack || (want.took-d).Abs() <= slack {
		return // the end of the wait and the end of the context meet: either may come first
	}
	if got.failed != want.failed || !near {
		t.Fatalf("%v: WaitN(%d) with %v left: failed %v (%v) after %v, x/time: %v after %v", lim, n, d, got.failed, err, got.took, want.failed, want.took)
	}
}

func TestConfigFaultsAllAtOnce(t *testing.T) {
	_, err := New(Config{
		Limit:        Limit{Rate: -1, Burst: -1},
		MaxKeys:      -1,
		SyncInterval: time.Nanosecond,
		Processes:    -1,
	})
	for _, field := range []string{"Limit", "MaxKeys", "SyncInterval", "Processes"} {
		if err == nil || !strings.Contains(err.Error(), "Config."+field) {
			t.Errorf("New names no fault of %s: %v", field, err)
		}
	}
	var none *redis.Client
	if _, err := New(Config{Limit: Per(1, time.Second), Redis: none}); err == nil || !strings.Contains(err.Error(), "Config.Redis") {
		t.Errorf("New with a nil client: %v", err)
	}
	for _, lim := range []Limit{
		{},
		{Rate: rate.Limit(math.NaN()), Burst: 1},
		{Rate: -1, Burst: 1},
		{Rate: 1, Burst: -1},
		{Rate: 1},
		{Burst: 1},
		{Rate: rate.Limit(math.Inf(1)), Burst: 1},
		Per(1, 0), Per(1, -time.Second),
	} {
		if _, err := New(Config{Limit: lim}); err == nil || !strings.Contains(err.Error(), "Config.Limit") {
			t.Errorf("New with %#v: %v", lim, err)
		}
	}
	for _, lim := range []Limit{{Rate: rate.Inf}, {Rate: 1e-9, Burst: 1}, {Rate: 1e18, Burst: math.MaxInt}} {
		if _, err := New(Config{Limit: lim}); err != nil {
			t.Errorf("New with %v: %v", lim, err)
		}
	}
}

// TestNeverIsNoShortWait: the RetryAfter of a cost that can never be admitted
// is rate.InfDuration, in every state. A loop that sleeps for it does not spin.
func TestNeverIsNoShortWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 1, Config{Limit: Per(3, time.Minute), LimitFor: func(key string) (Limit, bool) { return Limit{}, key == "none" }})
		defer f.close()
		shared := f.members[0].Limiter
		alone := newTestLocal(t, Per(3, time.Minute))
		check := func(when string) {
			for name, r := range map[string]Result{
				"a cost above the burst":                  shared.TakeN("k", 4),
				"a key that is denied everything":         shared.Take("none"),
				"Peek of a key that is denied everything": shared.Peek("none"),
				"a cost above the burst, without Redis":   alone.TakeN("k", 4),
			} {
				if r.Allowed || r.RetryAfter != rate.InfDuration {
					t.Errorf("%s, %s: %+v", when, name, r)
				}
			}
			parts, i := TakeAll(shared.Part("empty", 3), shared.Part("k", 4))
			if parts.Allowed || i != 1 || parts.RetryAfter != rate.InfDuration {
				t.Errorf("%s: part %d is the tightest: %+v", when, i, parts)
			}
		}
		shared.AllowN("empty", 3)
		check("connecting")
		until(t, "synced", func() bool { return syncNow(shared) == nil })
		check("synced")
		f.Down.Store(true)
		until(t, "degraded", func() bool { return shared.Status().State == Degraded })
		check("degraded")
	})
}

// TestErrorsNameTheLimiter: every error that a method returns says of which
// limiter it is; where a cost exceeds a burst, also the cost, the key, the limit
// and the burst. The errors to match are in them.
func TestErrorsNameTheLimiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 0, Config{})
		defer f.close()
		f.Down.Store(true)
		l := f.join(Config{Limit: Limit{Rate: 10, Burst: 3}, Prefix: "api", Processes: 1}).Limiter
		ctx := t.Context()
		exceeds := `limiter "api": cost exceeds burst: 4 tokens of "k", whose limit 10/s burst 3 has a burst of 3`
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		hour, err := New(Config{Limit: Per(1, time.Hour), Prefix: "hour"})
		if err != nil {
			t.Fatal(err)
		}
		hour.Allow("k")
		refused := make(chan error, 1)
		go func() { refused <- hour.WaitN(ctx, "k", 1) }()
		synctest.Wait()
		if err := hour.SetLimit(Limit{}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		_, invalid := New(Config{Prefix: "api"})
		for what, tc := range map[string]struct {
			err, is error
			want    string
		}{
			"WaitN":           {l.WaitN(ctx, "k", 4), ErrExceedsBurst, exceeds},
			"Key.WaitN":       {l.Key("k").WaitN(ctx, 4), ErrExceedsBurst, exceeds},
			"WaitAll":         {WaitAll(ctx, l.Part("k", 2), l.Part("k", 2)), ErrExceedsBurst, exceeds},
			"a smaller limit": {<-refused, ErrExceedsBurst, `limiter "hour": cost exceeds burst: 1 tokens of "k", whose limit 0/s burst 0 has a burst of 0`},
			"a deadline":      {func() error { _ = hour.SetLimit(Per(1, time.Hour)); hour.Charge("k", 1); return hour.Wait(short, "k") }(), context.DeadlineExceeded, `limiter "hour": a wait of `},
			"Sync":            {l.Sync(ctx), simnet.ErrCut, `limiter "api": sync: `},
			"Reset":           {l.Reset(ctx, "k"), nil, `limiter "api": `},
			"Status":          {l.Status().Err, simnet.ErrCut, `limiter "api": sync: `},
			"SetLimit":        {l.SetLimit(Limit{Rate: 1}), nil, `limiter "api": SetLimit: burst 0`},
			"New":             {invalid, nil, `limiter "api": Config.Limit: required`},
		} {
			if tc.err == nil || !strings.HasPrefix(tc.err.Error(), tc.want) || tc.is != nil && !errors.Is(tc.err, tc.is) {
				t.Errorf("%s: %v, want %s", what, tc.err, tc.want)
			}
		}
		_ = l.Close()
		for what, err := range map[string]error{"Sync": l.Sync(ctx), "Reset": l.Reset(ctx, "k"), "Status": l.Status().Err} {
			if !errors.Is(err, ErrClosed) || err.Error() != `limiter "api": closed` {
				t.Errorf("%s of a closed limiter: %v", what, err)
			}
		}
	})
}

func TestParseLimit(t *testing.T) {
	for s, want := range map[string]Limit{
		"100/15m":         Per(100, 15*time.Minute),
		"100/15m0s":       Per(100, 15*time.Minute),
		"10/s burst 50":   {Rate: 10, Burst: 50},
		"0.5/s burst 10":  {Rate: 0.5, Burst: 10},
		" 600/1m ":        Per(600, time.Minute),
		"1000/s":          {Rate: 1000, Burst: 1000},
		"100/day":         Per(100, 24*time.Hour),
		"100/d":           Per(100, 24*time.Hour),
		"10/min":          Per(10, time.Minute),
		"5/sec":           Per(5, time.Second),
		"10/hour":         Per(10, time.Hour),
		"10/2hours":       Per(10, 2*time.Hour),
		"unlimited":       {Rate: rate.Inf},
		"0/s burst 0":     {},
		"1e-05/s burst 3": {Rate: 1e-5, Burst: 3},
	} {
		if got, err := ParseLimit(s); err != nil || got != want {
			t.Errorf("ParseLimit(%q) = %#v, %v, want %#v", s, got, err, want)
		}
	}
	for _, s := range []string{
		"", "100", "/", "100/", "/s", "x/s", "100/x", "100/0s", "100/-1s", "-1/s", "0/s", "0.5/s", "NaN/s burst 1",
		"Inf/s burst 1", "10/s burst", "10/s burst x", "10/s burst -1", "10/s bust 1", "10/s burst 1 2", "1e300/s", "unlimited burst -1", "0/s burst 1", "100/month", "100/0d", "1/s burst 0",
	} {
		if got, err := ParseLimit(s); err == nil {
			t.Errorf("ParseLimit(%q) = %#v, want an error", s, got)
		}
	}
}

func FuzzParseLimit(f *testing.F) {
	for _, s := range []string{
		"100/15m", "10/s burst 50", "unlimited", "0.5/s burst 10", "0/s burst 0", "-0/s burst 0", "1e-320/s burst 1", "1/2562047h", "1/1ns",
		"9007199254740992/1ns", "9007199254740993/s", "NaN/s burst 1", "-1/s burst 1", "1e308/1ns burst 1", "1/s burst 9223372036854775807", "1_0/s", "0x1p4/s",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		lim, err := ParseLimit(s)
		if err != nil {
			return
		}
		if r := float64(lim.Rate); !(r >= 0) || math.IsInf(r, 0) || lim.Burst < 0 {
			t.Errorf("ParseLimit(%q) = %#v", s, lim)
		}
		if again, err := ParseLimit(lim.String()); err != nil || again != lim {
			t.Errorf("ParseLimit(%q) = %#v, its String %q is read as %#v, %v", s, lim, lim, again, err)
		}
	})
}

// TestLimitStringIsParsed: ParseLimit and UnmarshalText give back every valid limit bit by
// bit, however it was made.
func TestLimitStringIsParsed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		count := time.Duration(rapid.Int64Range(1, 1000).Draw(t, "count"))
		unit := rapid.SampledFrom([]time.Duration{1, time.Millisecond, time.Second, time.Minute, time.Hour, 24 * time.Hour}).Draw(t, "unit")
		odd := time.Duration(rapid.Int64Range(1, math.MaxInt64).Draw(t, "odd"))
		n := rapid.OneOf(rapid.IntRange(1, 1000), rapid.IntRange(1, math.MaxInt)).Draw(t, "n")
		lim := rapid.SampledFrom([]Limit{
			Per(n, count*unit), Per(n, odd),
			{Rate: rate.Every(count * unit), Burst: n},
			{Rate: rate.Every(odd), Burst: n},
			{Rate: rate.Limit(rapid.Float64Range(math.SmallestNonzeroFloat64, math.MaxFloat64).Draw(t, "rate")), Burst: n},
			{},
			{Rate: rate.Inf},
			{Rate: rate.Inf, Burst: n},
		}).Draw(t, "limit")
		if rapid.Bool().Draw(t, "another burst") && lim.Rate > 0 {
			lim = lim.WithBurst(rapid.OneOf(rapid.IntRange(1, 1000), rapid.IntRange(1, math.MaxInt)).Draw(t, "burst"))
		}
		if got, err := ParseLimit(lim.String()); err != nil || got != lim {
			t.Fatalf("ParseLimit(%q) = %#v, %v, want %#v", lim, got, err, lim)
		}
		text, err := lim.MarshalText()
		var got Limit
		if err != nil || got.UnmarshalText(text) != nil || got != lim {
			t.Fatalf("%#v is %q as text, %v, and read as %#v", lim, text, err, got)
		}
	})
	for want, lim := range map[string]Limit{
		"100/m":           Per(100, time.Minute),
		"100/15m":         Per(100, 15*time.Minute),
		"10/h":            Per(10, time.Hour),
		"20/s burst 5":    Per(20, time.Second).WithBurst(5),
		"100/d":           Per(100, 24*time.Hour),
		"30/m burst 2000": {Rate: 0.5, Burst: 2000},
		"unlimited":       {Rate: rate.Inf},
		"0/s burst 0":     {},
	} {
		if got := lim.String(); got != want {
			t.Errorf("%#v is %q, want %q", lim, got, want)
		}
	}
}

// TestTextOfLimitsAndStates: JSON, flags and anything else that reads texts takes limits
// and states. What is invalid has no text, and text that is not understood changes nothing.
func TestTextOfLimitsAndStates(t *testing.T) {
	type config struct {
		Default Limit
		ByKey   map[string]Limit
		State   State
		ByState map[State]int
	}
	want := config{Per(100, time.Minute), map[string]Limit{"a": Per(20, time.Second).WithBurst(5), "b": {Rate: rate.Inf}}, Synced, map[State]int{Degraded: 2}}
	text, err := json.Marshal(want)
	require.NoError(t, err)
	require.JSONEq(t, `{"Default":"100/m","ByKey":{"a":"20/s burst 5","b":"unlimited"},"State":"synced","ByState":{"degraded":2}}`, string(text))
	var got config
	require.NoError(t, json.Unmarshal(text, &got))
	require.Equal(t, want, got)

	require.Error(t, json.Unmarshal([]byte(`{"Default":"100/fortnight"}`), &got))
	require.ErrorContains(t, json.Unmarshal([]byte(`{"State":"asleep"}`), &got), `limiter: state "asleep": want "local", "connecting", "synced" or "degraded"`)
	require.Equal(t, want, got)
	for _, lim := range []Limit{{Rate: 1}, {Burst: 1}, {Rate: -1, Burst: 1}, {Rate: rate.Limit(math.NaN()), Burst: 1}, {Rate: rate.Limit(math.Inf(1)), Burst: 1}, {Rate: rate.Inf, Burst: -1}} {
		_, err := lim.MarshalText()
		require.ErrorContains(t, err, "limiter: limit ", "%#v", lim)
	}
	for _, s := range []State{-1, 4} {
		_, err := s.MarshalText()
		require.EqualError(t, err, fmt.Sprintf(`limiter: state %d is none`, s))
		require.Equal(t, fmt.Sprint("state ", int(s)), s.String())
	}

	fs := flag.NewFlagSet("", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.TextVar(&got.Default, "limit", Per(1, time.Second), "")
	require.NoError(t, fs.Parse([]string{"-limit", "10/day"}))
	require.Equal(t, Per(10, 24*time.Hour), got.Default)
	require.ErrorContains(t, fs.Parse([]string{"-limit", "10/"}), `limiter: limit "10/": "" is no time`)
	require.Equal(t, Per(10, 24*time.Hour), got.Default)
}

// TestStatusAsJSON: under the names that are documented, in both directions.
func TestStatusAsJSON(t *testing.T) {
	since := time.Date(2026, 5, 23, 10, 0, 0, 0, time.UTC)
	for want, st := range map[string]Status{
		`{"state":"local","since":"2026-05-23T10:00:00Z","processes":1,"pending":0}`: {Since: since, Processes: 1},
		`{"state":"degraded","since":"2026-05-23T10:00:00Z","last_sync":"2026-05-23T09:59:59.9Z","processes":3,"silent":1,"pending":17,"error":"\"gone\""}`: {
			State: Degraded, Since: since, LastSync: since.Add(-100 * time.Millisecond), Processes: 3, Silent: 1, Pending: 17, Err: errors.New(`"gone"`),
		},
	} {
		text, err := json.Marshal(st)
		require.NoError(t, err)
		require.Equal(t, want, string(text))
		var got Status
		require.NoError(t, json.Unmarshal(text, &got))
		require.Equal(t, st, got)
		require.Error(t, json.Unmarshal([]byte(`{"state":"asleep"}`), &got))
		require.NoError(t, json.Unmarshal([]byte(`null`), &got))
		require.Equal(t, st, got)
	}
	_, err := json.Marshal(Status{State: 9})
	require.ErrorContains(t, err, "limiter: state 9 is none")
}

var oddKeys = []string{
	"", "a", "\x00", "{", "}{", "a\nb\r\n", "\xff\xfe", strings.Repeat("k", 64), strings.Repeat("k", 65), strings.Repeat("x", 64<<10),
	"limiter:16:{0-1}", "*1\r\n$4\r\nPING\r\n",
}

func TestAnyKeyIsDecided(t *testing.T) {
	l := newTestLocal(t, Limit{Rate: 1, Burst: 2})
	for round, want := range []bool{true, true, false} {
		for _, key := range oddKeys {
			if got := l.Allow(key); got != want {
				t.Errorf("round %d, key of %d bytes: Allow = %v", round, len(key), got)
			}
		}
	}
	if n := l.Stats().Keys; n != len(oddKeys) {
		t.Errorf("%d keys resident, want %d", n, len(oddKeys))
	}
}

func TestAnyCostIsDecided(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newTestLocal(t, Limit{Rate: 1, Burst: 3})
		for _, tc := range []struct {
			n    int
			want bool
		}{{4, false}, {math.MaxInt, false}, {0, true}, {-1, true}, {math.MinInt, true}, {3, true}, {0, true}, {1, false}} {
			if got := l.AllowN("k", tc.n); got != tc.want {
				t.Errorf("AllowN(%d) = %v, want %v", tc.n, got, tc.want)
			}
		}
		l.Refund("k", math.MaxInt)
		if got := l.Peek("k").Remaining; got != 3 {
			t.Errorf("after a huge refund: Remaining = %d, want 3", got)
		}
		l.Charge("k", math.MaxInt)
		if l.AllowN("k", 0) {
			t.Error("AllowN(0) in debt is true")
		}
		l.Refund("k", -5)
		l.Charge("k", -5)
		if r := l.TakeN("k", 4); r.RetryAfter != rate.InfDuration || r.Allowed {
			t.Errorf("TakeN above burst: %+v", r)
		}
		if r := l.ReserveN("k", 4); r.OK() || r.Delay() != rate.InfDuration {
			t.Errorf("ReserveN above burst is OK, delay %v", r.Delay())
		}
		if err := l.WaitN(context.Background(), "k", 4); !errors.Is(err, ErrExceedsBurst) {
			t.Errorf("WaitN above burst: %v", err)
		}
	})
}

func TestDecisionsAllocateNothing(t *testing.T) {
	keys := append([]string{"key"}, oddKeys...)
	l := newTestLocal(t, Limit{Rate: 1e9, Burst: 1e6})
	for _, key := range keys {
		l.Allow(key)
	}
	for name, f := range map[string]func(string){
		"Allow":   func(k string) { l.Allow(k) },
		"Denied":  func(k string) { l.AllowN(k, 1e7) },
		"Take":    func(k string) { l.Take(k) },
		"Reserve": func(k string) { r := l.Reserve(k); r.Cancel() },
		"Wait":    func(k string) { _ = l.Wait(context.Background(), k) },
		"Charge":  func(k string) { l.Charge(k, 1); l.Refund(k, 1) },
	} {
		if n := testing.AllocsPerRun(100, func() {
			for _, key := range keys {
				f(key)
			}
		}); n != 0 {
			t.Errorf("%s allocates %v times", name, n)
		}
	}
}

func TestTakeSaysWhen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newTestLocal(t, Limit{Rate: 10, Burst: 5})
		r := l.TakeN("k", 4)
		if want := (Result{Allowed: true, Limit: Limit{10, 5}, Remaining: 1, ResetAfter: 400 * time.Millisecond}); r != want {
			t.Errorf("TakeN(4) = %+v, want %+v", r, want)
		}
		r = l.TakeN("k", 3)
		if r.Allowed || r.Remaining != 1 || r.RetryAfter < 200*time.Millisecond || r.RetryAfter > 200*time.Millisecond+2 {
			t.Errorf("TakeN(3) = %+v, want RetryAfter 200 ms", r)
		}
		time.Sleep(r.RetryAfter)
		if !l.AllowN("k", 3) {
			t.Error("denied after RetryAfter")
		}
		if r := l.Peek("other"); !r.Allowed || r.Remaining != 5 || l.Stats().Keys != 1 {
			t.Errorf("Peek = %+v with %d keys", r, l.Stats().Keys)
		}
	})
}

func TestLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		special := Limit{Rate: 1, Burst: 7}
		calls := map[string]int{}
		l, err := New(Config{Limit: Limit{Rate: 10, Burst: 10}, LimitFor: func(key string) (Limit, bool) {
			calls[key]++
			switch {
			case strings.HasPrefix(key, "special"):
				return special, true
			case key == "closed":
				return Limit{}, true
			case key == "open":
				return Limit{Rate: rate.Inf}, true
			case key == "bad":
				return Limit{Rate: -1}, true
			}
			return Limit{}, false
		}})
		if err != nil {
			t.Fatal(err)
		}
		long := "special" + strings.Repeat("x", 100)
		for key, want := range map[string]int{"special": 7, long: 7, "other": 10, "bad": 10, "closed": 0, "open": math.MaxInt} {
			if got := l.Peek(key).Remaining; got != want {
				t.Errorf("%.8s: Remaining %d, want %d", key, got, want)
			}
			if ok := l.Allow(key); ok != (want > 0) {
				t.Errorf("%.8s: Allow = %v", key, ok)
			}
		}
		if l.Stats().BadLimits == 0 {
			t.Error("the invalid limit is not counted")
		}
		l.AllowN("other", 4) // 5 of 10 left
		if err := l.SetLimit(Limit{Rate: 100, Burst: 60}); err != nil {
			t.Fatal(err)
		}
		if got := l.Peek("other").Remaining; got != 5 {
			t.Errorf("after SetLimit: Remaining %d, want 5: what was left", got)
		}
		if err := l.SetLimit(Limit{Rate: 1}); err == nil {
			t.Error("SetLimit takes an invalid limit")
		}
		special = Limit{Rate: 1, Burst: 20}
		before := calls["other"]
		l.Reload()
		if calls["other"] == before {
			t.Error("Reload does not ask for a resident key's limit")
		}
		for _, key := range []string{"special", long} {
			if r := l.Take(key); r.Limit != special {
				t.Errorf("%.8s: limit %v after Reload", key, r.Limit)
			}
		}
		if err := l.SetLimit(Limit{}); err != nil || l.Allow("other") {
			t.Errorf("the zero limit admits (%v)", err)
		}
	})
}

func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newTestLocal(t, Limit{Rate: 10, Burst: 1})
		begin := time.Now()
		for range 11 {
			if err := l.Wait(context.Background(), "k"); err != nil {
				t.Fatal(err)
			}
		}
		if d := time.Since(begin); d < time.Second-10 || d > time.Second+10 {
			t.Errorf("11 waits at 10/s took %v", d)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		defer cancel()
		begin = time.Now()
		if err := l.Wait(ctx, "k"); !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) != 0 {
			t.Errorf("Wait past its deadline: %v after %v", err, time.Since(begin))
		}
		ctx, cancel = context.WithCancel(context.Background())
		time.AfterFunc(10*time.Millisecond, cancel)
		if err := l.Wait(ctx, "k"); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled Wait: %v", err)
		}
		time.Sleep(90 * time.Millisecond)
		if !l.Allow("k") {
			t.Error("the cancelled wait has kept its token")
		}
	})
}

func TestEvictionIsByRecencyAndBounded(t *testing.T) {
	l, err := New(Config{Limit: Limit{Rate: 1, Burst: 1}, MaxKeys: 100})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 1000 {
		l.Allow("kept")
		l.Allow(fmt.Sprint(i))
	}
	if s := l.Stats(); s.Keys != 100 || s.Evicted != 901 {
		t.Errorf("%d keys, %d evicted, want 100 and 901", s.Keys, s.Evicted)
	}
	if l.Allow("kept") {
		t.Error("a key in use was evicted")
	}
}

func TestLocalNeedsNoGoroutine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // fails if one is left
		l := newTestLocal(t, Per(1, time.Second))
		if st := l.Status(); st.State != Local || st.Processes != 1 {
			t.Errorf("Status = %+v", st)
		}
		if err := errors.Join(l.Sync(t.Context()), l.Reset(t.Context(), "k")); err != nil {
			t.Error(err)
		}
	})
}

// TestHugeBurstAsksForWhatItTakes: no burst is so large that a request counts
// as less than nothing.
func TestHugeBurstAsksForWhatItTakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 2, Config{Limit: Limit{Rate: 1000, Burst: math.MaxInt}})
		defer f.close()
		f.members[0].AllowN("k", 3)
		a := flushed(f.members[0].Limiter, "k").account
		if a.Attempts != 3 || a.Demand <= 0 {
			t.Errorf("asked for %d tokens, demand %v, want 3 and more than 0", a.Attempts, a.Demand)
		}
	})
}

// TestShardsHoldNoMoreThanMaxKeys: and less by no more than one key each.
func TestShardsHoldNoMoreThanMaxKeys(t *testing.T) {
	for _, maxKeys := range []int{1, 2047, 2049, 65_537, 100_000} {
		lo, room := newLocal(maxKeys, 0, 0, nil), 0
		for sh := range lo.eachShard() {
			room += sh.keys.Size()
		}
		if room > maxKeys || room <= maxKeys-len(lo.shards) {
			t.Errorf("room for %d keys of %d, in %d shards", room, maxKeys, len(lo.shards))
		}
	}
}

// TestPeekAsksForTheLimitAgain: as the decision after a Reload would.
func TestPeekAsksForTheLimitAgain(t *testing.T) {
	lim := Per(10, time.Minute)
	l, err := New(Config{LimitFor: func(string) (Limit, bool) { return lim, true }, Limit: Per(1, time.Minute)})
	if err != nil {
		t.Fatal(err)
	}
	key := strings.Repeat("k", keyform.MaxKey+1)
	l.Allow(key)
	lim = Per(20, time.Minute)
	l.Reload()
	if got := l.Peek(key); got.Limit != lim || got.Remaining != 9 {
		t.Errorf("Peek = %+v, want the new limit, with what was left", got)
	}
}

// TestSetLimitLeavesReloadToCome: a key whose limit is to be asked for again at its next
// decision is not done with by another's change.
func TestSetLimitLeavesReloadToCome(t *testing.T) {
	special, asked := false, 0
	l, err := New(Config{
		Limit: Per(10, time.Minute), KeySecret: make([]byte, minSecret),
		LimitFor: func(string) (Limit, bool) { asked++; return Per(5, time.Minute), special },
	})
	if err != nil {
		t.Fatal(err)
	}
	l.Allow("k")
	special = true
	l.Reload()
	if err := l.SetLimit(Per(20, time.Minute)); err != nil {
		t.Fatal(err)
	}
	if got, want := l.Take("k").Limit, Per(5, time.Minute); got != want {
		t.Errorf("a limit of %v, want %v", got, want)
	}
	l.Allow("k")
	l.Peek("k")
	if asked != 2 {
		t.Errorf("its limit was asked for %d times, want 2", asked)
	}
}

// TestCancelGivesBackNoMore: than was reserved, whatever came between.
func TestCancelGivesBackNoMore(t *testing.T) {
	between := map[string]func(*Limiter){
		"a refund": func(l *Limiter) { l.Refund("k", 100); l.AllowN("k", 40) },
		"a reset":  func(l *Limiter) { _ = l.Reset(context.Background(), "k"); l.AllowN("k", 100) },
		"no limit, and a limit again": func(l *Limiter) {
			_, _ = l.SetLimit(Limit{Rate: rate.Inf}), l.SetLimit(Limit{Rate: 1, Burst: 100})
			l.AllowN("k", 100)
		},
	}
	check := func(t *testing.T, l *Limiter, do func(*Limiter)) {
		t.Helper()
		l.AllowN("k", 100)
		l.AllowN("k", 0)
		r := l.ReserveN("k", 5)
		do(l)
		before := l.Peek("k").ResetAfter
		r.Cancel()
		if back := before - l.Peek("k").ResetAfter; back > 5*time.Second {
			t.Errorf("cancelling 5 tokens has given back %v", back)
		}
	}
	for name, do := range between {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				check(t, newTestLocal(t, Limit{Rate: 1, Burst: 100}), do)
				l, _, f := tapped(t, Config{Limit: Limit{Rate: 1, Burst: 100}})
				defer f.close()
				l.AllowN("k", 100)
				_ = syncNow(l)
				l.Refund("k", 100)
				_ = syncNow(l)
				check(t, l, do)
			})
		})
	}
}

// TestRefundIsNoCredit: what is given back to a full bucket is gone.
func TestRefundIsNoCredit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _, f := tapped(t, Config{Limit: Limit{Rate: 0.001, Burst: 100}})
		defer f.close()
		l.Allow("k")
		_ = syncNow(l)
		l.Refund("k", 1e5)
		admitted := 0
		for range 10 {
			for l.Allow("k") {
				admitted++
			}
			time.Sleep(time.Second)
		}
		if admitted > 101 {
			t.Errorf("%d admitted at once of a burst of 100", admitted)
		}
	})
}

// TestHugeNumbers: the largest burst, and the largest debt.
func TestHugeNumbers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newTestLocal(t, Limit{Rate: 1e18, Burst: math.MaxInt})
		for _, what := range []string{"fresh", "reset"} {
			if r := l.Take("k"); !r.Allowed || r.Remaining <= 0 || r.Limit.Burst <= 0 {
				t.Errorf("%s: %+v", what, r)
			}
			_ = l.Reset(context.Background(), "k")
		}
		l = newTestLocal(t, Limit{Rate: 1e9, Burst: 1})
		for range 1024 {
			l.Charge("k", math.MaxInt)
		}
		if r := l.Take("k"); r.RetryAfter <= 0 || r.ResetAfter <= 0 {
			t.Errorf("2^63 tokens in debt: %+v", r)
		}
	})
}

// TestLimitForHoldsNoLock: it may call the limiter, and wait for who does.
func TestLimitForHoldsNoLock(t *testing.T) {
	var l *Limiter
	l, err := New(Config{Limit: busy, LimitFor: func(string) (Limit, bool) {
		if !l.changing.TryLock() {
			t.Error("LimitFor is called under the lock of SetLimit and Reload")
			return Limit{}, false
		}
		l.changing.Unlock()
		return Limit{}, false
	}})
	if err != nil {
		t.Fatal(err)
	}
	l.Allow("k")
	l.Reload()
}

// TestLimitChangeKeepsTokens: what was left stays left, at most the new burst, and what
// was owed stays owed, also under a limit by which nothing, or everything, is admitted,
// and while the key is not resident.
func TestLimitChangeKeepsTokens(t *testing.T) {
	none, all := Limit{}, Limit{Rate: rate.Inf}
	for _, tc := range []struct {
		name     string
		from, to Limit
		taken    int // from a full bucket, the rest of a burst by Charge
		want     int // at once
		next     time.Duration
	}{
		{"raised, spent", Per(10, time.Hour), Per(10, time.Second), 10, 0, 100 * time.Millisecond},
		{"raised, some left", Per(10, 20*time.Second).WithBurst(15), Per(1000, 20*time.Second).WithBurst(15), 8, 7, 20 * time.Millisecond},
		{"lowered, spent", Per(100, time.Second), Per(100, 15*time.Minute), 100, 0, 9 * time.Second},
		{"a smaller burst", Per(5000, time.Hour), Per(100, time.Second), 2500, 100, 10 * time.Millisecond},
		{"a larger burst", Per(10, 10*time.Second), Per(100, 100*time.Second), 4, 6, time.Second},
		{"raised, in debt", Per(10, time.Hour), Per(10, time.Second), 30, 0, 2100 * time.Millisecond},
		{"lowered, in debt", Per(10, time.Second), Per(10, 10*time.Second), 30, 0, 21 * time.Second},
		{"the same", Per(10, time.Second), Per(10, time.Second), 4, 6, 100 * time.Millisecond},
	} {
		for via, between := range map[string][]Limit{"at once": nil, "by nothing": {none}, "by everything": {all}, "by both": {none, all, none}} {
			for _, resident := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s, %s, resident %v", tc.name, via, resident), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						l := newTestLocalOf(t, Config{Limit: tc.from, MaxKeys: 1})
						l.Charge("k", tc.taken)
						if !resident {
							l.Allow("another")
						}
						for _, lim := range append(between, tc.to) {
							if err := l.SetLimit(lim); err != nil {
								t.Fatal(err)
							}
							if got := l.Allow("k"); resident && lim != tc.to && got != (lim == all) {
								t.Errorf("under %v Allow = %v", lim, got)
							} else if got && lim == tc.to {
								l.Refund("k", 1)
							}
						}
						if got := l.Peek("k").Remaining; got > tc.want || got < tc.want-1 && resident {
							t.Errorf("%d are left, want %d", got, tc.want)
						}
						for l.Allow("k") {
						}
						if got := l.Take("k").RetryAfter; (got-tc.next).Abs() > tc.next/100+2*time.Millisecond && resident {
							t.Errorf("the next in %v, want %v", got, tc.next)
						} else if got > tc.next+2*time.Millisecond {
							t.Errorf("evicted meanwhile, the next in %v, want no more than %v", got, tc.next)
						}
					})
				})
			}
		}
	}
}

// TestMemoryOutlivesNoLimit: a key that is evicted, and comes back while there is no
// limit, or all is denied, has what it had when there is a limit again.
func TestMemoryOutlivesNoLimit(t *testing.T) {
	for _, via := range []Limit{{}, {Rate: rate.Inf}} {
		for _, redis := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				lim := Per(100, time.Hour)
				cfg := Config{Limit: lim, MaxKeys: 1, Processes: 1}
				l := newTestLocalOf(t, cfg)
				if redis {
					f := newFleet(t, 1, cfg)
					defer f.close()
					l = f.members[0].Limiter
				}
				l.AllowN("k", 100)
				l.Charge("k", 20)
				l.Allow("another")
				for _, lim := range []Limit{via, lim} {
					if err := l.SetLimit(lim); err != nil {
						t.Fatal(err)
					}
					l.Allow("k")
				}
				if got := l.Peek("k").ResetAfter; l.Allow("k") || (got-72*time.Minute).Abs() > time.Minute {
					t.Errorf("by way of %v, Redis %v: full in %v, want 1h12m", via, redis, got)
				}
			})
		}
	}
}

// TestSuspendedLimitsLoseNothing: what was taken before a limit was lifted, or closed,
// is told to the fleet; what is taken under no limit isn't, and a Charge while all is
// denied is owed.
func TestSuspendedLimitsLoseNothing(t *testing.T) {
	for name, via := range map[string]Limit{"by nothing": {}, "by everything": {Rate: rate.Inf}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				lim := Per(100, time.Hour)
				f := newFleet(t, 2, Config{Limit: lim, Processes: 2})
				defer f.close()
				until(t, "a fleet of 2", func() bool { return f.members[0].Status().Processes == 2 && f.members[1].Status().Processes == 2 })
				a, b := f.members[0], f.members[1]
				b.AllowN("k", 1)
				a.AllowN("k", 10)
				if err := a.SetLimit(via); err != nil {
					t.Fatal(err)
				}
				a.Charge("k", 20)
				for range 50 {
					a.Allow("k")
				}
				time.Sleep(time.Second)
				missing := 11.
				if via.Rate == 0 {
					missing += 20
				}
				if err := errors.Join(syncNow(b.Limiter), a.SetLimit(lim), syncNow(a.Limiter)); err != nil {
					t.Fatal(err)
				}
				for i, m := range f.members {
					if got := m.Peek("k").ResetAfter.Seconds() * float64(lim.Rate); math.Abs(got-missing) > 0.1 {
						t.Errorf("process %d sees that %.2f tokens are missing, want %v", i, got, missing)
					}
				}
				if s := a.Stats(); s.DroppedTokens != 0 {
					t.Errorf("%d tokens were dropped", s.DroppedTokens)
				}
			})
		})
	}
}

// TestLimitForThatChangesLimitsEnds: limits that change each time they are asked for, by
// LimitFor itself or beside it, hold up no decision for more than two calls of it, and
// the next decision asks again.
func TestLimitForThatChangesLimitsEnds(t *testing.T) {
	asked, calm := 0, false
	var l *Limiter
	l = newTestLocalOf(t, Config{Limit: Per(10, time.Minute), LimitFor: func(string) (Limit, bool) {
		asked++
		if !calm {
			_ = l.SetLimit(Per(20+asked, time.Minute))
		}
		return Limit{}, false
	}})
	for i := range 3 {
		asked = 0
		if l.Allow("k"); asked != 2 {
			t.Errorf("decision %d asked %d times, want 2", i, asked)
		}
	}
	_ = l.Reserve("k2")
	TakeAll(l.Part("k", 1), l.Part("k3", 1))
	l.Peek("k4")
	l.Reload()
	calm = true
	if got, want := l.Take("k").Limit, *l.local.limit.Load(); got != want {
		t.Errorf("the limit is %v, want %v", got, want)
	}
	asked = 0
	l.Allow("k")
	if asked != 0 {
		t.Error("a settled limit is asked for again")
	}
}

// TestCancelAfterAFasterLimit: as with x/time/rate, though there were decisions meanwhile.
func TestCancelAfterAFasterLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, theirs := newTestLocal(t, Limit{Rate: 1, Burst: 10}), rate.NewLimiter(1, 10)
		require.True(t, l.AllowN("k", 10) && theirs.AllowN(time.Now(), 10))
		r, want := l.ReserveN("k", 5), theirs.ReserveN(time.Now(), 5)
		require.Equal(t, want.Delay(), r.Delay())
		require.NoError(t, l.SetLimit(Limit{Rate: 2, Burst: 10}))
		theirs.SetLimit(2)
		time.Sleep(3*time.Second + time.Millisecond)
		require.True(t, l.Allow("k") && theirs.Allow())
		time.Sleep(100 * time.Millisecond)
		require.False(t, l.Allow("k") || theirs.Allow())
		r.Cancel()
		want.Cancel()
		if got, want := l.AllowN("k", 5), theirs.AllowN(time.Now(), 5); got != want {
			t.Errorf("after a Cancel 5 tokens: %v, with x/time %v", got, want)
		}
	})
}
