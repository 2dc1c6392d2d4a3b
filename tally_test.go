package limiter

import (
	"math"
	"slices"
	"time"
)

// tally is what came of a load, beside one central bucket fed the same requests.
type tally struct {
	lim       Limit
	warm, dur time.Duration
	admitted  []float64 // tokens, by bin
	central   []float64
	asked     []float64
	chance    []chance // by process, after warm-up
	window    meter    // from warm-up on
	phases    []phaseTally
	requests  int
	exchanges float64 // keys exchanged and calls on the fleet's key, after warm-up
	before    Stats   // at the end of warm-up
	fleet     *fleet
	print     uint64 // of every decision in order
}

const bin = 100 * time.Millisecond

// chance counts requests of one process.
type chance struct{ asked, admitted, central float64 }

// phaseTally is what came of one phase.
type phaseTally struct {
	phase
	window meter
	last   time.Duration // last admission
	spell  time.Duration // longest without one
}

// meter finds the largest admission beyond r·t + b in any window: it is the
// largest debt of a bucket of the limit that only counts.
type meter struct {
	level, most float64 // tokens
	at          time.Duration
	begun       bool
}

func (m *meter) count(lim Limit, at time.Duration, n float64) {
	if !m.begun {
		m.level, m.at, m.begun = float64(lim.Burst), at, true
	}
	m.level = min(float64(lim.Burst), m.level+(at-m.at).Seconds()*float64(lim.Rate)) - n
	m.at = at
	m.most = max(m.most, -m.level)
}

func newTally(f *fleet, lim Limit, ld load) *tally {
	bins := int((ld.dur + bin - 1) / bin)
	y := &tally{
		lim: lim, warm: ld.warm, dur: ld.dur, fleet: f,
		admitted: make([]float64, bins), central: make([]float64, bins), asked: make([]float64, bins),
	}
	for _, p := range ld.phases {
		y.phases = append(y.phases, phaseTally{phase: p, last: p.from})
	}
	return y
}

// add counts one decision of process who at an instant.
func (y *tally) add(at time.Duration, who, n int, central, admitted bool) {
	y.requests++
	y.print = (y.print ^ uint64(at)<<1 ^ b2u(admitted)) * 1099511628211
	i, tokens := int(at/bin), float64(n)
	y.asked[i] += tokens
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
	c.asked++
	c.admitted += float64(b2u(admitted))
	c.central += float64(b2u(central))
}

func (y *tally) admit(at time.Duration, tokens float64) {
	if at >= y.warm {
		y.window.count(y.lim, at, tokens)
	}
	for i := range y.phases {
		if p := &y.phases[i]; at >= p.from && at < p.to {
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

func (f *fleet) stats() (s Stats) {
	for _, m := range f.members {
		one := m.Stats()
		s.Rounds += one.Rounds
		s.KeysExchanged += one.KeysExchanged
	}
	return s
}

func (y *tally) closed(f *fleet) *tally {
	after := f.stats()
	y.exchanges = float64(after.KeysExchanged - y.before.KeysExchanged)
	for i := range y.phases {
		p := &y.phases[i]
		p.spell = max(p.spell, p.to-p.last)
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

// over is the admission in a span over that of the central bucket.
func (y *tally) over(from, to time.Duration) float64 {
	return between(y.admitted, from, to)/between(y.central, from, to) - 1
}

// excess is the worst window after warm-up, in bursts.
func (y *tally) excess() float64 { return y.window.most / float64(y.lim.Burst) }

// falseDenials is by how much more of the requests was denied than by the
// central bucket, after warm-up.
func (y *tally) falseDenials() float64 {
	var all chance
	for _, c := range y.chance {
		all.asked, all.admitted, all.central = all.asked+c.asked, all.admitted+c.admitted, all.central+c.central
	}
	return (all.central - all.admitted) / all.asked
}

// spread is how far a request's chance differs between processes: the 90th
// less the 10th percentile, over the mean; of the fleet and of the central
// bucket, where it is chance alone.
func (y *tally) spread() (fleet, central float64) {
	var ours, ideal []float64
	for _, c := range y.chance {
		if c.asked >= 20 {
			ours, ideal = append(ours, c.admitted/c.asked), append(ideal, c.central/c.asked)
		}
	}
	return spreadOf(ours), spreadOf(ideal)
}

func spreadOf(x []float64) float64 {
	if len(x) < 2 || sum(x) == 0 {
		return 0
	}
	slices.Sort(x)
	at := func(q float64) float64 {
		i := q * float64(len(x)-1)
		low := math.Floor(i)
		return x[int(low)] + (i-low)*(x[int(math.Ceil(i))]-x[int(low)])
	}
	return (at(0.9) - at(0.1)) * float64(len(x)) / sum(x)
}

// perToken is the number of exchanges of the key for each token admitted.
func (y *tally) perToken() float64 {
	return y.exchanges / between(y.admitted, y.warm, y.dur)
}

// settled is how long after an instant what was admitted since, less what the
// central bucket did, came to stay within a quarter of a burst of where it
// was at the instant to.
func (y *tally) settled(from, to time.Duration) time.Duration {
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
