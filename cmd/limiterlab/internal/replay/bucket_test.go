package replay

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/time/rate"
	"pgregory.net/rapid"

	"github.com/seed-e56e777b/limiter"
)

// limits generates limits with whole and fractional emission intervals, and
// with small and large bursts.
func limits() *rapid.Generator[limiter.Limit] {
	return rapid.Custom(func(t *rapid.T) limiter.Limit {
		period := rapid.SampledFrom([]time.Duration{time.Second, time.Minute, time.Hour, 7 * time.Second}).Draw(t, "period")
		return limiter.Per(rapid.IntRange(1, 200).Draw(t, "n"), period)
	})
}

// gaps generates the times between requests in milliseconds: often none,
// sometimes hours.
func gaps() *rapid.Generator[[]int] {
	return rapid.SliceOfN(rapid.OneOf(rapid.Just(0), rapid.IntRange(0, 50), rapid.IntRange(0, 5000), rapid.IntRange(0, 1e7)), 1, 300)
}

func TestBucketEqualsXTimeRate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := limits().Draw(t, "limit")
		r, theirs := ruleOf(l), rate.NewLimiter(l.Rate, l.Burst)
		var ours tat
		now, start := time.Duration(0), time.Unix(0, 0)
		for i, gap := range gaps().Draw(t, "gaps") {
			now += time.Duration(gap) * time.Millisecond
			want := theirs.AllowN(start.Add(now), 1)
			if got := r.take(&ours, float64(now)); got != want {
				t.Fatalf("request %d at %v: %v, want %v", i, now, got, want)
			}
			if got, want := r.level(ours, float64(now)), theirs.TokensAt(start.Add(now)); got-want > 1e-5 || want-got > 1e-5 {
				t.Fatalf("request %d at %v leaves %v, want %v", i, now, got, want)
			}
		}
	})
}

func TestDebtIsSettled(t *testing.T) {
	r := ruleOf(limiter.Per(10, time.Second))
	var b tat
	for range 25 {
		r.charge(&b, 0)
	}
	require.InDelta(t, -15, r.level(b, 0), 1e-9)
	require.InDelta(t, -5, r.level(b, 1e9), 1e-9)
	r.settle(&b, 1e9)
	require.InDelta(t, 0, r.level(b, 1e9), 1e-9)
	r.settle(&b, 1.5e9)
	require.InDelta(t, 5, r.level(b, 1.5e9), 1e-9, "what is no debt stays")
}
