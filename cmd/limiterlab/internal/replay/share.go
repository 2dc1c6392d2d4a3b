package replay

import (
	"math/rand/v2"
	"time"

	"github.com/seed-e56e777b/limiter"
	shares "github.com/seed-e56e777b/limiter/internal/demand"
	outages "github.com/seed-e56e777b/limiter/internal/outage"
)

// fleetRule is what a process of a fleet makes of a limit without Redis: it
// keeps to its share (docs/design.md §6, Shares).
type fleetRule struct {
	rate, burst float64 // tokens per nanosecond; tokens
	n           float64 // processes
	random      *rand.Rand
}

func newFleetRule(l limiter.Limit, n int) fleetRule {
	return fleetRule{
		rate:   float64(l.Rate) / 1e9,
		burst:  float64(l.Burst),
		n:      float64(n),
		random: rand.New(rand.NewPCG(1, 2)), // the same log gives the same result
	}
}

// share is one key's bucket in one process without Redis.
type share struct {
	part      float64 // of the limit, when the outage began
	since     float64 // when it did
	level, at float64
	refill    float64 // tokens per nanosecond
	capacity  float64
	threshold float64
	until     float64 // when the share has to be looked at again
}

// demandShare is the part of the limit that demand gives: own, and that of all.
func (f *fleetRule) demandShare(own, all float64) float64 {
	return shares.Share(own, all-own, f.rate, f.n)
}

// begin is the bucket of a process that has the given part of a limit whose
// one bucket held level tokens when the outage began.
func (f *fleetRule) begin(part, level, since float64) share {
	s := share{part: part, since: since, at: since}
	if f.n == 1 {
		s.part = 1
	}
	s.level = s.part * min(f.burst, level)
	f.renew(&s, since)
	return s
}

// renew brings the share up to date: a small one rises.
func (f *fleetRule) renew(s *share, now float64) {
	s.level, s.at = s.levelAt(now), now
	part := outages.ShareAfter(s.part, f.n, time.Duration(now-s.since))
	s.refill = part * f.rate
	s.capacity = outages.Capacity(part, f.burst, outages.Allowance(1, s.refill*1e9))
	s.threshold = f.draw()
	s.until = now + float64(outages.Renewal)
}

// draw draws a threshold, which lets a share below a token admit its part. A
// process alone has the limit as it is.
func (f *fleetRule) draw() float64 {
	if f.n == 1 {
		return 1
	}
	return 1 - f.random.Float64()
}

func (s *share) levelAt(now float64) float64 {
	if s.until == 0 {
		return s.level
	}
	return min(s.capacity, s.level+(now-s.at)*s.refill)
}

// take admits one token at now, or changes nothing.
func (f *fleetRule) take(s *share, now float64) bool {
	if now >= s.until {
		f.renew(s, now)
	}
	level := s.levelAt(now)
	if missing := s.threshold*min(1, s.capacity) - level; missing > 0 && missing >= s.refill {
		return false
	}
	s.level, s.at = level-1, now
	s.threshold = f.draw()
	return true
}
