package replay

import (
	"math/rand/v2"
	"time"

	"github.com/seed-e56e777b/limiter"
	shares "github.com/seed-e56e777b/limiter/internal/demand"
	outages "github.com/seed-e56e777b/limiter/internal/outage"
)

// fleetRule is the rule by which each process of a fleet admits without Redis:
// it keeps to its share of the limit (docs/design.md §6, Shares).
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
		random: rand.New(rand.NewPCG(1, 2)), // a fixed seed: the same log gives the same result
	}
}

// share is the bucket of one key in one process without Redis.
type share struct {
	part      float64 // part of the limit at the instant since, from 0 to 1
	since     float64 // instant at which the bucket began
	level, at float64 // tokens, and the instant at which there were so many
	refill    float64 // tokens per nanosecond
	capacity  float64 // tokens
	threshold float64 // part of min(1, capacity) tokens that the next admission needs
	until     float64 // instant of the next renewal
}

// demandShare returns the part of the limit for a process, by its own demand
// and that of all processes.
func (f *fleetRule) demandShare(own, all float64) float64 {
	return shares.Share(own, all-own, f.rate, f.n)
}

// begin returns the bucket of a process with the given part of the limit. The
// one bucket of all processes held level tokens at the instant since. A process
// alone has the whole limit.
func (f *fleetRule) begin(part, level, since float64) share {
	s := share{part: part, since: since, at: since}
	if f.n == 1 {
		s.part = 1
	}
	s.level = s.part * min(f.burst, level)
	f.renew(&s, since)
	return s
}

// renew brings the bucket up to now and lets a small share rise.
func (f *fleetRule) renew(s *share, now float64) {
	s.level, s.at = s.levelAt(now), now
	part := outages.ShareAfter(s.part, f.n, time.Duration(now-s.since))
	s.refill = part * f.rate
	s.capacity = outages.Capacity(part, f.burst, outages.Allowance(1, s.refill*1e9))
	s.threshold = f.draw()
	s.until = now + float64(outages.Renewal)
}

// draw returns a random threshold in (0, 1], with which a share below one token
// admits its part on average. The threshold of a process alone is 1.
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

// take reports whether it admits one token at now. A denial takes nothing.
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
