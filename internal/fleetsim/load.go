package fleetsim

import (
	"math"
	"math/rand/v2"
	"time"

	"golang.org/x/time/rate"

	"github.com/seed-e56e777b/limiter"
)

// Load is the demand for one key, with Poisson arrivals unless Regular is set.
type Load struct {
	Seed    uint64
	Dur     time.Duration
	Total   func(at time.Duration) float64              // requests per second of all processes
	Weight  func(process int, at time.Duration) float64 // relative weight of one process
	Robin   bool                                        // true if the processes take turns
	Regular bool                                        // true if arrivals are evenly spaced
	Cost    func(*rand.Rand) int                        // default 1
	Warm    time.Duration                               // time before the count; default 2 s
	Phases  []Phase
	At      []Event // in order
}

// Phase is a part of a run with separate figures.
type Phase struct {
	Name     string
	From, To time.Duration
}

// Event is an event of a run.
type Event struct {
	At time.Duration
	Do func()
}

// Equal gives all processes the same weight.
func Equal(int, time.Duration) float64 { return 1 }

// Skewed gives the k-th process the weight 1/k.
func Skewed(process int, _ time.Duration) float64 { return 1 / float64(process+1) }

// Jumping moves all traffic to another process of ten every 5 s.
func Jumping(process int, at time.Duration) float64 {
	if process == int(at/(5*time.Second))%10 {
		return 1
	}
	return 0
}

// Steady returns a constant load in requests per second.
func Steady(rate float64) func(time.Duration) float64 {
	return func(time.Duration) float64 { return rate }
}

// Stepped returns a load of before requests per second, and of during between the
// instants from and to.
func Stepped(before, during float64, from, to time.Duration) func(time.Duration) float64 {
	return func(at time.Duration) float64 {
		if at >= from && at < to {
			return during
		}
		return before
	}
}

// OnOff returns a load that is high for the first part on of every period.
func OnOff(high float64, on, period time.Duration) func(time.Duration) float64 {
	return func(at time.Duration) float64 {
		if at%period < on {
			return high
		}
		return 0
	}
}

// key is the key of a load.
const key = "k"

// Run applies the load to the fleet, which has the given limit at the beginning.
func (f *Fleet) Run(lim limiter.Limit, ld Load) *Tally {
	if ld.Warm == 0 {
		ld.Warm = 2 * time.Second
	}
	y := newTally(f, lim, ld)
	y.bucket = rate.NewLimiter(lim.Rate, lim.Burst)
	y.begin = time.Now().Truncate(time.Microsecond).Add(time.Microsecond)
	time.Sleep(time.Until(y.begin))
	y.arrivals(f, &ld)
	return y.closed(f)
}

// arrivals makes the requests of a load, and its events.
func (y *Tally) arrivals(f *Fleet, ld *Load) {
	rng := rand.New(rand.NewPCG(ld.Seed, 1))
	turn := 0
	var at time.Duration
	for {
		at = ld.next(rng, at)
		for len(ld.At) > 0 && ld.At[0].At <= min(at, ld.Dur) {
			y.sleepUntil(ld.At[0].At)
			ld.At[0].Do()
			ld.At = ld.At[1:]
		}
		if at >= ld.Dur {
			y.sleepUntil(ld.Dur)
			return
		}
		y.sleepUntil(at)
		n, who := 1, turn%len(f.Members)
		if ld.Cost != nil {
			n = ld.Cost(rng)
		}
		if !ld.Robin {
			who = ld.pick(rng, len(f.Members), at)
		}
		turn++
		y.add(at, who, n, y.bucket.AllowN(time.Now(), n), f.Members[who].AllowN(key, n))
	}
}

// next returns the arrival after at, at a full microsecond.
func (ld *Load) next(rng *rand.Rand, at time.Duration) time.Duration {
	const idle = time.Millisecond
	for at < ld.Dur {
		perSecond := ld.Total(at)
		if perSecond <= 0 {
			at = (at + idle).Truncate(idle)
			continue
		}
		gap := 1.
		if !ld.Regular {
			gap = rng.ExpFloat64()
		}
		exact := float64(at) + gap/perSecond*1e9
		if ld.Regular { // gaps are rounded to microseconds, up or down by chance
			exact += 1000*rng.Float64() - 500
		}
		return max(at, time.Duration(math.Min(exact, float64(ld.Dur))).Truncate(time.Microsecond))
	}
	return at
}

func (ld *Load) pick(rng *rand.Rand, n int, at time.Duration) int {
	total := 0.
	for i := range n {
		total += ld.Weight(i, at)
	}
	x := rng.Float64() * total
	for i := range n {
		if x -= ld.Weight(i, at); x < 0 {
			return i
		}
	}
	return n - 1
}
