package account

import (
	"errors"
	"math"
	"testing"
	"time"

	"golang.org/x/time/rate"
	"pgregory.net/rapid"

	"github.com/seed-e56e777b/limiter/internal/bucket"
	"github.com/seed-e56e777b/limiter/internal/demand"
	"github.com/seed-e56e777b/limiter/internal/mono"
	"github.com/seed-e56e777b/limiter/internal/outage"
)

// noise is the part by which sums of floating-point numbers may be off: some are float32.
const noise = 1e-6

// Intervals between reports: the range of Config.SyncInterval.
const (
	minInterval = time.Millisecond
	maxInterval = time.Minute
)

// peers are processes of one fleet that agree on the state of one key and on each other's
// demand.
type peers struct {
	rate, burst float64
	params      *Params
	now, tat    mono.Time
	demand      []float64 // tokens per second
	others      []float64 // tokens per second
}

func drawPeers(t *rapid.T) *peers {
	n := rapid.IntRange(2, 40).Draw(t, "processes")
	silent := rapid.IntRange(0, n-1).Draw(t, "silent")
	interval := rapid.SampledFrom([]time.Duration{minInterval, 100 * time.Millisecond, time.Second, maxInterval}).Draw(t, "interval")
	p := &peers{
		rate: rapid.Float64Range(1e-3, 1e6).Draw(t, "rate"), burst: float64(rapid.IntRange(1, 1e6).Draw(t, "burst")),
		now:    mono.Time(time.Hour),
		params: NewParams(float64(n), 0, float64(n-silent)/float64(n), interval, time.Duration(rapid.IntRange(0, 1e9).Draw(t, "rtt")), demand.TauIntervals*interval),
	}
	full := mono.Seconds(p.burst / p.rate)
	p.tat = p.now + mono.Time(rapid.Float64Range(-2, 3).Draw(t, "bursts to go")*float64(min(full, 1000*time.Hour)))
	total := 0.
	for range n {
		d := rapid.Float64Range(0, 10).Draw(t, "demand in rates") * p.rate
		p.demand, total = append(p.demand, d), total+d
	}
	for _, d := range p.demand {
		p.others = append(p.others, max(0, total-d))
	}
	return p
}

// account returns the account and the bucket of process i.
func (p *peers) account(i int) (Account, bucket.Bucket) {
	a, b := New(p.now), bucket.New(p.rate, p.burst, p.now)
	a.TAT, a.RepliedAt = p.tat, p.now
	a.Demand, a.Others = p.demand[i], p.others[i]
	a.meanOwn, a.meanOwnAtReply, a.MeanOthers = float32(p.demand[i]), float32(p.demand[i]), float32(p.others[i])
	if p.params.Scale < 1 {
		a.Silence.Then = 1 // all of the demand has gone silent: each of the silent is left an equal share
	}
	return a, b
}

// TestLawGrantsSumToTheRate: processes that agree on each other's demand grant themselves
// by one state at most all that it has. Shares sum to 1, share-mode refills to the part of
// the rate that the silent leave, levels to the level. A pool-mode refill is the part of
// the rate that the others' demand leaves.
func TestLawGrantsSumToTheRate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawPeers(t)
		r := p.rate * p.params.Scale
		held := rapid.Bool().Draw(t, "held")
		shares, refills, levels, shared := 0., 0., 0., 0.
		for i := range p.demand {
			a, b := p.account(i)
			if held {
				a.frozenShare, a.RelearnUntil = rapid.Float32Range(0, 1).Draw(t, "share before"), p.now+1
			}
			a.regrant(&b, p.now, p.params)
			if b.Mode == bucket.Pool {
				if want := max(0, r-p.others[i]); b.Refill != want {
					t.Fatalf("in pool mode a refill of %v, where the others leave %v", b.Refill, want)
				}
				continue
			}
			shares, refills, levels = shares+a.Share, refills+b.Refill, levels+max(0, b.Level)
			shared = max(shared, a.SharedLevel(&b, p.now, r))
		}
		switch {
		case shares > 1+noise:
			t.Fatalf("shares sum to %v", shares)
		case refills > r*(1+noise):
			t.Fatalf("refills sum to %v of %v", refills, r)
		case levels > shared*(1+noise):
			t.Fatalf("levels sum to %v of %v", levels, shared)
		}
	})
}

// TestLawOutageSharesSumToTheRate: so they do without any exchange when an outage begins,
// at once or after all have been idle for a while. The shares to which it then lifts the
// idle exceed the rate by at most outage.IdlePart of it.
func TestLawOutageSharesSumToTheRate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawPeers(t)
		since := p.now + mono.Time(rapid.SampledFrom([]int64{0, rapid.Int64Range(0, int64(10*time.Minute)).Draw(t, "idle")}).Draw(t, "before the outage"))
		later := since + mono.Time(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "into the outage"))
		refills, lifted, levels := 0., 0., 0.
		for i := range p.demand {
			a, b := p.account(i)
			a.ResidentSince = p.now.Add(-time.Minute)
			a.demandAtReport, a.ownAtReply = float32(a.Demand), float32(a.Demand)
			a.ApplyOutage(&b, since, since, p.params)
			levels, refills = levels+max(0, b.Level), refills+b.Refill
			a.ApplyOutage(&b, since, later, p.params)
			lifted += b.Refill
		}
		if r := p.rate; refills > r*(1+noise) || lifted > r*(1+outage.IdlePart)*(1+noise) {
			t.Fatalf("refills sum to %v, later to %v, of %v", refills, lifted, r)
		}
		if levels > p.burst*(1+noise) {
			t.Fatalf("levels sum to %v of a burst of %v", levels, p.burst)
		}
	})
}

// shareable reports whether a fleet can share a key of a limit.
func shareable(r float64, burst int) bool {
	return r > 0 && !math.IsInf(r, 0) && r != float64(rate.Inf) && burst > 0
}

// FuzzRelimit: under another limit a bucket keeps its tokens and its debt, here and by the
// last reply. It has at most the new burst, or a share's part of it. Unreported usage
// stays, and a grant stays within the limit.
func FuzzRelimit(f *testing.F) {
	f.Add(10., 10, 1., 100, 3., int64(7))
	f.Add(1e-9, 5, 1e18, 1000000000, -1e6, int64(-3))
	f.Add(1000., 1, 0.3, 1, 0.5, int64(1<<53))
	f.Fuzz(func(t *testing.T, fromRate float64, fromBurst int, toRate float64, toBurst int, level float64, usage int64) {
		if !shareable(fromRate, fromBurst) || !shareable(toRate, toBurst) || math.IsNaN(level) {
			t.Skip()
		}
		change := func(format string, args ...any) {
			t.Helper()
			t.Errorf("%v/s, %d to %v/s, %d: "+format, append([]any{fromRate, fromBurst, toRate, toBurst}, args...)...)
		}
		b := bucket.New(fromRate, float64(fromBurst), 1)
		b.Level = max(-bucket.MaxTokens, min(level, b.Burst))
		alone := b
		b.Capacity, b.Refill = b.Burst/3, b.Rate/3
		a := New(1)
		a.Usage = int64(bucket.Clamp(float64(usage)))
		a.Carry = 5
		const now = mono.Time(1e9)
		a.RepliedAt, a.TAT = now, now+mono.Time(max(0, min((b.Burst-b.Level)/b.Rate*1e9, 1e18)))
		left, shared, unreported := min(b.LevelAt(now), float64(toBurst)/3), min(a.SharedLevel(&b, now, b.Rate), float64(toBurst)), float64(a.Usage)+a.Carry*b.Rate/1e6
		fullFrom, leftAlone := float64(b.FullMicros()), min(alone.LevelAt(now), float64(toBurst))
		next := bucket.New(toRate, float64(toBurst), now)
		alone.Relimit(now, &next)
		a.Relimit(&b, &next, now)
		b.Relimit(now, &next)
		if b.Rate != next.Rate || b.Burst != next.Burst {
			change("has become %v/s, %v", b.Rate, b.Burst)
		}
		if got := b.LevelAt(now); math.Abs(got-left) > noise*math.Abs(left) {
			change("%v tokens are left of a share instead of %v", got, left)
		}
		if got := alone.LevelAt(now); math.Abs(got-leftAlone) > noise*math.Abs(leftAlone) {
			change("%v tokens are left instead of %v", got, leftAlone)
		}
		// A TAT is converted to a microsecond, and keeps its rest below one.
		rounding := 2e-6*(fromRate+b.Rate) + noise*(math.Abs(shared)+float64(fromBurst)+b.Burst)
		coarse := math.Abs(shared) * (1/fullFrom + 1/float64(b.FullMicros())) // of the time to full, a whole number of µs
		if got := min(a.SharedLevel(&b, now, b.Rate), b.Burst); math.Abs(got-shared) > rounding+coarse && a.TAT-now < 1e18 {
			change("the shared bucket has %v tokens instead of %v", got, shared)
		}
		if got := float64(a.Usage) + a.Carry*b.Rate/1e6; math.Abs(got-unreported) > noise*math.Abs(unreported) {
			change("%v tokens are unreported instead of %v", got, unreported)
		}
		if !(b.Capacity > 0 && b.Capacity <= b.Burst && b.Refill >= 0 && b.Refill <= b.Rate) {
			change("a grant of %+v", b.Grant)
		}
	})
}

// Bounds beyond which numbers that no caller can bring about leave the range of float64.
const (
	maxRate   = 1e30
	maxDemand = 1e30 // tokens per second; 2^53 tokens in each of 10^14 calls a second
)

// FuzzGrant: whatever the fleet reports, a share lies in [0, 1]. A grant is finite, its
// refill lies between 0 and the rate, and its capacity between 0 and the burst.
func FuzzGrant(f *testing.F) {
	f.Add(1000., 100, 300., 2700., uint16(10), uint16(2), int64(1e8), int64(1e6), int64(3e7), int64(5), 0.25, false)
	f.Add(1e-3, 5, 0., 1e24, uint16(60000), uint16(0), int64(1e6), int64(0), int64(-1e18), int64(-5), 0., true)
	f.Add(1e18, 1, 1e24, 1e24, uint16(2), uint16(1), int64(6e10), int64(6e10), int64(1e18), int64(1<<53), 1., true)
	f.Fuzz(func(t *testing.T, r float64, burst int, own, others float64, fleet, silent uint16, interval, rtt, toGo, usage int64, share float64, held bool) {
		n := max(1, float64(fleet))
		within := func(x, most float64) bool { return x >= 0 && x <= most }
		if !shareable(r, burst) || !within(r, maxRate) || !within(own, maxDemand) || !within(others, maxDemand) || !within(share, 1) {
			t.Skip()
		}
		now := mono.Time(time.Hour)
		every := time.Duration(max(int64(minInterval), min(interval, int64(time.Hour))))
		p := NewParams(n, 0, max(1, n-float64(silent))/n, every, time.Duration(max(0, min(rtt, int64(time.Hour)))), demand.TauIntervals*every)
		b, a := bucket.New(r, float64(burst), now), New(now)
		a.Demand, a.Others, a.meanOwn, a.MeanOthers, a.frozenShare = own, others, float32(own), float32(others), float32(share)
		a.Usage, a.InFlight = int64(bucket.Clamp(float64(usage))), 1
		a.RepliedAt, a.TAT = now, now+max(-now, min(mono.Time(toGo), mono.Never-now))
		if held {
			a.RelearnUntil = now + 1
		}
		if s := demand.Share(own, others, r, n); !(s >= 0 && s <= 1) {
			t.Errorf("a share of %v", s)
		}
		check := func(what string) {
			if err := errors.Join(b.Check(), a.Check(false)); err != nil || !(b.Refill <= b.Rate) || !(b.Capacity <= b.Burst) || !(b.Capacity >= 0) {
				t.Errorf("%s: %v: %+v %+v", what, err, b, a)
			}
		}
		a.regrant(&b, now, p)
		check("connected")
		a.ApplyOutage(&b, now, now.Add(p.RTT), p)
		check("in an outage")
	})
}
