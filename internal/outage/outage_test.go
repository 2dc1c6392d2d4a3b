package outage

import (
	"math"
	"testing"
	"time"
)

func near(t *testing.T, what string, got, want, within float64) {
	t.Helper()
	if !(math.Abs(got-want) <= within) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

func TestShareAfter(t *testing.T) {
	near(t, "a part that is large", ShareAfter(0.5, 4, time.Hour), 0.5, 0)
	near(t, "none at first", ShareAfter(0, 4, 0), 0, 0)
	near(t, "none after long", ShareAfter(0, 4, time.Hour), IdlePart/4, 1e-9)
}

func TestAllowance(t *testing.T) {
	near(t, "a slow share", Allowance(1, 0.1), 1.05, 1e-9)
	near(t, "a fast share", Allowance(3, 1000), 3+saveMost, 0)
}

func TestStoppedConfidence(t *testing.T) {
	for what, tc := range map[string]struct {
		expected, requested float64
		span                time.Duration
		want                float64
	}{
		"as expected":              {100, 100, time.Minute, 0},
		"more than expected":       {100, 300, time.Minute, 0},
		"of few, few missing":      {4, 2, time.Minute, 0.0155},
		"of many, all missing":     {1000, 0, time.Minute, 0.9975},
		"all missing, no news yet": {1000, 0, time.Second, 0.0952},
	} {
		near(t, what, StoppedConfidence(tc.expected, tc.requested, 1, tc.span, 10*time.Second), tc.want, 1e-3)
	}
}

// A fleet of 4 with a demand of 300/s, of which one falls silent.
func TestSilenceLeavesRoomByDemand(t *testing.T) {
	const tau, quiet = 500 * time.Millisecond, 1200 * time.Millisecond
	reply := func(now float64, since time.Duration) Observation {
		return Observation{Mean: 295, Now: now, Request: 1, Age: time.Minute, Since: since, Tau: tau, SilentAfter: quiet, Lost: 0.25}
	}
	for what, tc := range map[string]struct{ now, want, lost float64 }{
		"its demand went with it":         {225, 0.75, 75},
		"its demand came to the others":   {300, 1, 0},
		"more is gone than an equal part": {100, 0.75, 77},
		"a little is gone, maybe chance":  {285, 0.987, 10},
	} {
		var s Silence
		if got := s.Scale(0.75, 1, tau); got != 1 {
			t.Errorf("%s: a scale of %v before any silence", what, got)
		}
		s.Observe(reply(tc.now, 0), false)
		for range 100 {
			s.Observe(reply(tc.now, 100*time.Millisecond), false)
		}
		near(t, what, s.Scale(0.75, 1, tau), tc.want, 0.02)
		s.Observe(Observation{Mean: tc.now, Now: tc.now, Request: 1, Age: time.Minute, Tau: tau, SilentAfter: quiet, Lost: 0.25}, true)
		near(t, what+", what is lost", float64(s.Lost), tc.lost, 5)
		near(t, what+", a minute later", s.Scale(0.75, 1, tau), 1, 0.02)
		s.End(0.25)
		if s.Then != 0 || float64(s.Lost) < tc.lost-5 || s.Scale(0.75, 1, tau) != 1 {
			t.Errorf("%s: when it is lost: %+v", what, s)
		}
		s.End(0)
		if s != (Silence{}) {
			t.Errorf("%s: when all are back: %+v", what, s)
		}
	}
}
