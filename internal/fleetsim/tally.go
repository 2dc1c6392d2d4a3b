package fleetsim

import (
	"math"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/seed-e56e777b/limiter"
)

// Tally is the result of a load, and that of one central bucket with the same requests.
type Tally struct {
	Print uint64 // fingerprint of every decision, in order

	lim       limiter.Limit
	warm, dur time.Duration
	begin     time.Time
	fleet     *Fleet
	bucket    *rate.Limiter // the central one
	phases    []phaseTally
	before    limiter.Stats // at the end of warm-up

	mu        sync.Mutex
	admitted  []float64 // tokens, by bin
	central   []float64
	attempts  []float64
	chance    []chance           // by process, after warm-up
	window    meter              // from warm-up on
	instants  []admission        // in order
	waits     [][]float64        // waits that ended with a token, in seconds, by process
	workers   []int              // waiting workers, by process
	extra     map[string]float64 // other figures, by name
	exchanges float64            // keys exchanged after warm-up
}

const bin = 100 * time.Millisecond

// admission is tokens admitted at an instant of a run.
type admission struct {
	at     time.Duration
	tokens float64
}

// chance counts requests of one process.
type chance struct{ attempts, admitted, central float64 }

// phaseTally is the result of one phase.
type phaseTally struct {
	Phase
	window meter
	last   time.Duration // last admission
	spell  time.Duration // longest without one
}

// meter measures the largest admission beyond r·t + b in any window. That is the
// largest debt of a bucket that only counts.
type meter struct {
	level, most float64 // tokens
	at          time.Duration
	begun       bool
}

func (m *meter) count(lim limiter.Limit, at time.Duration, n float64) {
	if !m.begun {
		m.level, m.at, m.begun = float64(lim.Burst), at, true
	}
	m.level = min(float64(lim.Burst), m.level+(at-m.at).Seconds()*float64(lim.Rate)) - n
	m.at = at
	m.most = max(m.most, -m.level)
}

func newTally(f *Fleet, lim limiter.Limit, ld Load) *Tally {
	bins := int((ld.Dur + bin - 1) / bin)
	y := &Tally{
		lim: lim, warm: ld.Warm, dur: ld.Dur, fleet: f, extra: map[string]float64{},
		admitted: make([]float64, bins), central: make([]float64, bins), attempts: make([]float64, bins),
	}
	for _, p := range ld.Phases {
		y.phases = append(y.phases, phaseTally{Phase: p, last: p.From})
	}
	return y
}

// add counts one decision of a process at an instant.
func (y *Tally) add(at time.Duration, who, n int, central, admitted bool) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.Print = (y.Print ^ uint64(at)<<1 ^ b2u(admitted)) * 1099511628211
	i, tokens := int(at/bin), float64(n)
	if i >= len(y.attempts) {
		return
	}
	y.attempts[i] += tokens
	if central {
		y.central[i] += tokens
	}
	if admitted {
		y.admitted[i] += tokens
		y.admit(at, tokens)
	}
	if at < y.warm {
		return
	}
	if y.before.Rounds == 0 {
		y.before = y.fleet.stats()
	}
	for len(y.chance) <= who {
		y.chance = append(y.chance, chance{})
	}
	c := &y.chance[who]
	c.attempts++
	c.admitted += float64(b2u(admitted))
	c.central += float64(b2u(central))
}

func (y *Tally) admit(at time.Duration, tokens float64) {
	y.instants = append(y.instants, admission{at, tokens})
	if at >= y.warm {
		y.window.count(y.lim, at, tokens)
	}
	for i := range y.phases {
		if p := &y.phases[i]; at >= p.From && at < p.To {
			p.window.count(y.lim, at, tokens)
			p.spell, p.last = max(p.spell, at-p.last), at
		}
	}
}

func b2u(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

func (f *Fleet) stats() (s limiter.Stats) {
	for _, m := range f.Members {
		one := m.Stats()
		s.Rounds += one.Rounds
		s.KeysExchanged += one.KeysExchanged
	}
	return s
}

func (y *Tally) closed(f *Fleet) *Tally {
	after := f.stats()
	y.exchanges = float64(after.KeysExchanged - y.before.KeysExchanged)
	for i := range y.phases {
		p := &y.phases[i]
		p.spell = max(p.spell, p.To-p.last)
	}
	return y
}

func sum(x []float64) (s float64) {
	for _, v := range x {
		s += v
	}
	return s
}

func between(x []float64, from, to time.Duration) float64 {
	return sum(x[min(len(x), int(from/bin)):min(len(x), int(to/bin))])
}

// Admitted returns the tokens admitted in a span, by the fleet and by the central
// bucket.
func (y *Tally) Admitted(from, to time.Duration) (fleet, central float64) {
	return between(y.admitted, from, to), between(y.central, from, to)
}

// Over returns the admission in a span over that of the central bucket.
func (y *Tally) Over(from, to time.Duration) float64 {
	return between(y.admitted, from, to)/between(y.central, from, to) - 1
}

// Excess returns the largest excess of a window after warm-up, in bursts.
func (y *Tally) Excess() float64 { return y.window.most / float64(y.lim.Burst) }

// falseDenials returns the part of requests denied after warm-up, less that of the
// central bucket.
func (y *Tally) falseDenials() float64 {
	var all chance
	for _, c := range y.chance {
		all.attempts, all.admitted, all.central = all.attempts+c.attempts, all.admitted+c.admitted, all.central+c.central
	}
	return (all.central - all.admitted) / all.attempts
}

// spread returns the spread of a request's chance between processes: the 90th less the
// 10th percentile, over the mean. It returns that of the fleet and that of the central
// bucket, which is noise.
func (y *Tally) spread() (fleet, central float64) {
	var ours, ideal []float64
	for _, c := range y.chance {
		if c.attempts >= 20 {
			ours, ideal = append(ours, c.admitted/c.attempts), append(ideal, c.central/c.attempts)
		}
	}
	return spreadOf(ours), spreadOf(ideal)
}

func spreadOf(x []float64) float64 {
	if len(x) < 2 || sum(x) == 0 {
		return 0
	}
	return (quantile(x, 0.9) - quantile(x, 0.1)) * float64(len(x)) / sum(x)
}

// quantile returns the q-quantile of x, which it sorts.
func quantile(x []float64, q float64) float64 {
	slices.Sort(x)
	i := q * float64(len(x)-1)
	low := math.Floor(i)
	return x[int(low)] + (i-low)*(x[int(math.Ceil(i))]-x[int(low)])
}

// perToken returns the number of exchanges of the key for each token admitted.
func (y *Tally) perToken() float64 {
	return y.exchanges / between(y.admitted, y.warm, y.dur)
}

// settled returns the time after an instant from which on the excess over the central
// bucket stays within a quarter of a burst of its value at the instant to.
func (y *Tally) settled(from, to time.Duration) time.Duration {
	diff, last := between(y.admitted, from, to)-between(y.central, from, to), from
	for i := int(to/bin) - 1; i >= int(from/bin); i-- {
		diff -= y.admitted[i] - y.central[i]
		if end := between(y.admitted, from, to) - between(y.central, from, to); math.Abs(end-diff) > max(1, float64(y.lim.Burst)/4) {
			last = time.Duration(i+1) * bin
			break
		}
	}
	return last - from
}

// most returns the largest number of tokens admitted in any window of a span. Windows
// begin at any instant.
func (y *Tally) most(from, to, window time.Duration) (most float64) {
	first, inside := 0, 0.
	for _, a := range y.instants {
		if a.at < from || a.at >= to {
			continue
		}
		for y.instants[first].at < from || y.instants[first].at <= a.at-window {
			if y.instants[first].at >= from {
				inside -= y.instants[first].tokens
			}
			first++
		}
		inside += a.tokens
		most = max(most, inside)
	}
	return most
}

// windows returns the tokens admitted in the consecutive windows of a span.
func (y *Tally) windows(from, to, window time.Duration) (list []float64) {
	for at := from; at+window <= to; at += window {
		list = append(list, between(y.admitted, at, at+window))
	}
	return list
}

func (y *Tally) phase(name string) *phaseTally {
	for i := range y.phases {
		if y.phases[i].Name == name {
			return &y.phases[i]
		}
	}
	panic("no phase " + name)
}
