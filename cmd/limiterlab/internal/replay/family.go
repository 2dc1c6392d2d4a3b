package replay

import (
	"hash/maphash"
	"math"
	"time"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/logs"
)

// A suggestion keeps the period of a limit, b/r, and looks for the least burst:
// of 100/m it looks at 1/m, 2/m and so on. A larger one of these never denies
// more, as every cost is 1.

// familySize is how many limits are tried side by side.
const familySize = 32

// maxTokens is the largest burst that is looked at.
const maxTokens = 1 << 30

// family counts what each of several limits denies.
type family struct {
	limits []limiter.Limit
	rules  []rule
	denied []int
	keys   *table[[familySize]tat]
	lost   losses
	total  int
}

func newFamily(limits []limiter.Limit, most int) *family {
	f := &family{limits: limits, denied: make([]int, len(limits))}
	for _, l := range limits {
		f.rules = append(f.rules, ruleOf(l))
	}
	f.keys = newTable(most, func(all *[familySize]tat) { f.lost.count(allFull(all, f.lost.now)) })
	return f
}

func allFull(all *[familySize]tat, now float64) bool {
	for _, t := range all {
		if !t.full(now) {
			return false
		}
	}
	return true
}

func (f *family) add(now float64, hash uint64) {
	f.lost.now = now
	f.total++
	tats, _ := f.keys.get(hash)
	for i := range f.rules {
		if !f.rules[i].take(&tats[i], now) {
			f.denied[i]++
		}
	}
}

// withBurst is the limit of the same period with another burst.
func withBurst(l limiter.Limit, burst int) limiter.Limit {
	period := time.Duration(math.Round(float64(l.Burst) / float64(l.Rate) * 1e9))
	return limiter.Per(burst, period)
}

// withBursts are the limits of the same period with the given bursts, of which
// there are at most familySize.
func withBursts(l limiter.Limit, bursts []int) []limiter.Limit {
	var limits []limiter.Limit
	for _, b := range bursts {
		limits = append(limits, withBurst(l, b))
	}
	return limits
}

// Coarse are limits of the period of l that span all that can be: powers of 2.
func Coarse(l limiter.Limit) []limiter.Limit {
	var bursts []int
	for b := 1; b <= maxTokens; b *= 2 {
		bursts = append(bursts, b)
	}
	return withBursts(l, bursts)
}

// Around are limits of the period of l about as large: from a fortieth to thirty
// times, each about 26 % above the one before.
func Around(l limiter.Limit) []limiter.Limit {
	var bursts []int
	for k := range familySize {
		b := int(math.Round(float64(l.Burst) * math.Pow(2, float64(k-familySize/2)/3)))
		if b >= 1 && (len(bursts) == 0 || b > bursts[len(bursts)-1]) {
			bursts = append(bursts, b)
		}
	}
	return withBursts(l, bursts)
}

// between are limits above one burst and below another, evenly apart.
func between(l limiter.Limit, below, above int) []limiter.Limit {
	var bursts []int
	parts := min(familySize+1, above-below)
	for i := 1; i < parts; i++ {
		bursts = append(bursts, below+(above-below)*i/parts)
	}
	return withBursts(l, bursts)
}

// Count is what a limit would have denied.
type Count struct {
	Limit  limiter.Limit
	Denied int
}

// Suggestion is a limit that denies no more than was asked for.
type Suggestion struct {
	Most     float64 // what part of the requests it may deny
	Total    int     // requests
	Best     *Count  // the least known to deny no more; nil: even the largest tried denies more
	Below    *Count  // the largest known to deny more; nil: even the least tried does not
	Tried    []Count
	Exact    bool // none between Below and Best was left out
	Lost     Losses
	original limiter.Limit
}

// suggestion is what the family has found.
func (f *family) suggestion(l limiter.Limit, most float64) *Suggestion {
	s := &Suggestion{Most: most, Total: f.total, Lost: f.lost.public(), original: l}
	s.take(f)
	return s
}

// take narrows the suggestion by what a family has found.
func (s *Suggestion) take(f *family) {
	for i, l := range f.limits {
		c := Count{l, f.denied[i]}
		s.Tried = append(s.Tried, c)
		if float64(c.Denied) <= s.Most*float64(s.Total) {
			if s.Best == nil || l.Burst < s.Best.Limit.Burst {
				s.Best = &c
			}
		} else if s.Below == nil || l.Burst > s.Below.Limit.Burst {
			s.Below = &c
		}
	}
	s.Exact = s.Best != nil && len(s.next()) == 0
}

// next are the limits that would tell more.
func (s *Suggestion) next() []limiter.Limit {
	if s.Best == nil {
		return nil
	}
	below := 0
	if s.Below != nil {
		below = s.Below.Limit.Burst
	}
	return between(s.original, below, s.Best.Limit.Burst)
}

// Refine narrows the suggestion to the least burst there is, by reading the log
// again and again: read calls its argument for every request of it.
func (s *Suggestion) Refine(maxKeys int, read func(func(*logs.Entry)) error) error {
	for limits := s.next(); len(limits) > 0; limits = s.next() {
		f := newFamily(limits, maxKeys)
		var o order
		seed := maphash.MakeSeed()
		err := read(func(e *logs.Entry) {
			if e.HasKey {
				f.add(o.at(e.At), maphash.Bytes(seed, e.Key))
			}
		})
		if err != nil {
			return err
		}
		s.take(f)
		s.Lost.add(f.lost.public())
	}
	return nil
}
