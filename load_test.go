package limiter

import (
	"math"
	"math/rand/v2"
	"time"

	"golang.org/x/time/rate"
)

// load is what is asked of a fleet on one key: Poisson arrivals unless regular.
type load struct {
	seed    uint64
	dur     time.Duration
	total   func(at time.Duration) float64              // requests per second of all
	weight  func(process int, at time.Duration) float64 // of one process; need not sum to 1
	robin   bool                                        // the processes take turns
	regular bool                                        // evenly spaced
	cost    func(*rand.Rand) int                        // default 1
	warm    time.Duration                               // until when nothing counts; default 2 s
	phases  []phase
	at      []event // what happens meanwhile, in order
	key     string
}

// phase is a part of a run of which the figures are wanted separately.
type phase struct {
	name     string
	from, to time.Duration
}

type event struct {
	at time.Duration
	do func()
}

func equal(int, time.Duration) float64 { return 1 }

func skewed(process int, _ time.Duration) float64 { return 1 / float64(process+1) }

// jumping moves all traffic to another process of ten every 5 s.
func jumping(process int, at time.Duration) float64 {
	if process == int(at/(5*time.Second))%10 {
		return 1
	}
	return 0
}

func steady(rate float64) func(time.Duration) float64 {
	return func(time.Duration) float64 { return rate }
}

// stepped is before, then during from the instant from to the instant to, then
// before again.
func stepped(before, during float64, from, to time.Duration) func(time.Duration) float64 {
	return func(at time.Duration) float64 {
		if at >= from && at < to {
			return during
		}
		return before
	}
}

// onOff is high for the first part on of every period.
func onOff(high float64, on, period time.Duration) func(time.Duration) float64 {
	return func(at time.Duration) float64 {
		if at%period < on {
			return high
		}
		return 0
	}
}

// run feeds the load to the fleet.
func (f *fleet) run(lim Limit, ld load) *tally {
	rng := rand.New(rand.NewPCG(ld.seed, 1))
	if ld.warm == 0 {
		ld.warm = 2 * time.Second
	}
	y := newTally(f, lim, ld)
	central := rate.NewLimiter(lim.Rate, lim.Burst)
	if ld.key == "" {
		ld.key = "k"
	}
	begin := time.Now().Truncate(time.Microsecond).Add(time.Microsecond)
	time.Sleep(time.Until(begin))
	turn := 0
	var at time.Duration
	for {
		at = ld.next(rng, at)
		for len(ld.at) > 0 && ld.at[0].at <= min(at, ld.dur) {
			time.Sleep(ld.at[0].at - time.Since(begin))
			ld.at[0].do()
			ld.at = ld.at[1:]
		}
		if at >= ld.dur {
			time.Sleep(ld.dur - time.Since(begin))
			return y.closed(f)
		}
		time.Sleep(at - time.Since(begin))
		n, who := 1, turn%len(f.members)
		if ld.cost != nil {
			n = ld.cost(rng)
		}
		if !ld.robin {
			who = ld.pick(rng, len(f.members), at)
		}
		turn++
		y.add(at, who, n, central.AllowN(time.Now(), n), f.members[who].allow(ld.key, n))
	}
}

// next is the arrival after at, at a full microsecond.
func (ld *load) next(rng *rand.Rand, at time.Duration) time.Duration {
	const idle = time.Millisecond
	for at < ld.dur {
		perSecond := ld.total(at)
		if perSecond <= 0 {
			at = (at + idle).Truncate(idle)
			continue
		}
		gap := 1.
		if !ld.regular {
			gap = rng.ExpFloat64()
		}
		exact := float64(at) + gap/perSecond*1e9
		if ld.regular { // no gap of a whole number of microseconds would do: each is rounded up or down by chance
			exact += 1000*rng.Float64() - 500
		}
		return max(at, time.Duration(math.Min(exact, float64(ld.dur))).Truncate(time.Microsecond))
	}
	return at
}

func (ld *load) pick(rng *rand.Rand, n int, at time.Duration) int {
	total := 0.
	for i := range n {
		total += ld.weight(i, at)
	}
	x := rng.Float64() * total
	for i := range n {
		if x -= ld.weight(i, at); x < 0 {
			return i
		}
	}
	return n - 1
}
