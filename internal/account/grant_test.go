package account

import (
	"math"
	"testing"
)

// TestChanceIsNoJumpOfDemand: requests that come at random, as many on average as are
// expected, hardly ever make a share-mode key due at once.
func TestChanceIsNoJumpOfDemand(t *testing.T) {
	for _, expected := range []float64{0.25, 0.5, 1, 2, 3, 5, 8, 13, 20, 50} {
		if got, most := poissonFrom(shareAlarm(expected), expected), 0.003; got > most {
			t.Errorf("%v expected: %.2f %% of rounds are an alarm, want at most %.2f %%", expected, 100*got, 100*most)
		}
	}
}

// TestJumpOfDemandIsAlarming: a key is due at once at three times the expected requests
// and three more; of many, at twice as many and two more.
func TestJumpOfDemandIsAlarming(t *testing.T) {
	for _, expected := range []float64{0, 0.1, 0.25, 0.5, 1, 2, 3, 5, 8, 13, 20, 50, 1e6} {
		most := 3*expected + 3
		if expected >= 20 {
			most = 2*expected + 2
		}
		if got := shareAlarm(expected); float64(got) > most {
			t.Errorf("%v expected: an alarm at %d, want it at %v", expected, got, most)
		}
	}
}

// poissonFrom returns the probability of k or more requests that come at random, mean on
// average.
func poissonFrom(k int64, mean float64) float64 {
	less := 0.
	for i := range k {
		log, _ := math.Lgamma(float64(i) + 1)
		less += math.Exp(float64(i)*math.Log(mean) - mean - log)
	}
	return 1 - less
}
