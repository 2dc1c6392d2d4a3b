package bucket

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/seed-e56e777b/limiter/internal/mono"
)

// TestLawDebtHoldsBack: under any grant a bucket admits a cost when its refill has lifted
// the level to the threshold, and not before.
func TestLawDebtHoldsBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := mono.Time(time.Hour)
		b := New(rapid.Float64Range(1e-2, 1e5).Draw(t, "rate"), float64(rapid.IntRange(1, 1000).Draw(t, "burst")), now)
		b.Mode = rapid.SampledFrom([]Mode{Pool, Share, Stale}).Draw(t, "mode")
		b.Threshold = rapid.Float32Range(0.001, 1).Draw(t, "threshold")
		b.Refill *= rapid.Float64Range(0.01, 1).Draw(t, "part of the rate")
		b.Capacity *= rapid.Float64Range(0.1, 1).Draw(t, "part of the burst")
		n := rapid.Float64Range(0, b.Capacity).Draw(t, "cost")
		b.Charge(now, b.LevelAt(now)+rapid.Float64Range(0, 1e9*b.Refill).Draw(t, "debt"))
		due := now + mono.Time(Delay(b.Level-b.Need(n), b.Refill))
		edge := 4 + (due-now)/(1<<40) // nanoseconds: the rounding, and the nanosecond that Enough forgives
		if due-edge > now && b.Admits(b.LevelAt(due-edge), n) {
			t.Fatalf("%v admitted %d ns early by %+v", n, edge, b)
		}
		if !b.Admits(b.LevelAt(due+edge), n) {
			t.Fatalf("%v denied %d ns late by %+v", n, edge, b)
		}
	})
}
