package demand

import (
	"math"
	"testing"
	"time"
)

const tau = 500 * time.Millisecond

func near(t *testing.T, what string, got, want float64) {
	t.Helper()
	if !(math.Abs(got-want) <= 1e-6*max(1, math.Abs(want))) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

func TestSharesSumToOne(t *testing.T) {
	for _, demands := range [][]float64{{1, 2, 3}, {0, 0, 0, 5}, {0, 0}, {1e12, 1e-12}} {
		all, sum := 0., 0.
		for _, d := range demands {
			all += d
		}
		for _, d := range demands {
			sum += Share(d, all-d, 100, float64(len(demands)))
		}
		near(t, "the sum of shares", sum, 1)
	}
	near(t, "of a rate whose ε is 0", Share(0, 0, 0, 4), 0.25)
}

// TestMeansAreThoseOfTheCount: the formulas integrate a count that decays, as small
// steps of it show.
func TestMeansAreThoseOfTheCount(t *testing.T) {
	const step = time.Microsecond
	for _, tc := range []struct {
		before, rate float64 // tokens per second requested from then on, evenly
		span         time.Duration
	}{{10, 0, time.Second}, {0, 40, time.Second}, {100, 20, 100 * time.Millisecond}} {
		d, area, requested := tc.before, 0., 0.
		for range tc.span / step {
			area += d * step.Seconds()
			d += (tc.rate - d) * step.Seconds() / tau.Seconds()
			requested += tc.rate * step.Seconds()
		}
		mean := area / tc.span.Seconds()
		if got := MeanCounted(int64(math.Round(requested)), tc.before, d, tc.span, tau); math.Abs(got-mean) > 1e-3*mean {
			t.Errorf("%+v: counted %v, want %v", tc, got, mean)
		}
		if tc.rate == 0 {
			if math.Abs(Decay(tc.before, tc.span, tau)/d-1) > 1e-3 {
				t.Errorf("%+v: decayed to %v, want %v", tc, Decay(tc.before, tc.span, tau), d)
			}
			if got := MeanBetween(tc.before, 0, tc.span, tau); math.Abs(got-mean) > 1e-3*mean {
				t.Errorf("%+v: between %v, want %v", tc, got, mean)
			}
		}
	}
}

// TestAverageHasNoBias: the mean of a constant is the constant, at any age.
func TestAverageHasNoBias(t *testing.T) {
	mean, age := 0., time.Duration(0)
	for _, span := range []time.Duration{time.Millisecond, time.Second, time.Minute, 100 * time.Millisecond} {
		age += span
		mean = Average(mean, 7, span, age, tau)
		near(t, "after "+age.String(), mean, 7)
	}
	near(t, "at 30 s, of another value", Average(7, 0, SlowTau, time.Hour, tau), 7/math.E)
}
