package replay

import (
	"hash/maphash"
	"math"
	"time"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/logs"
)

// A suggestion keeps the period of a limit, b/r, and searches for the smallest
// burst. For 100/m it tries 1/m, 2/m and so on. Because every request costs one
// token, a larger burst of the same period never denies more.

// familySize is the largest number of limits that one reading tries side by
// side.
const familySize = 32

// maxTokens is the largest burst that a suggestion tries, in tokens.
const maxTokens = 1 << 30

// family counts the denials of several limits over the same requests.
type family struct {
	limits []limiter.Limit
	rules  []rule
	denied []int // denials of each limit
	keys   *table[[familySize]tat]
	lost   losses
	total  int // requests
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

// withBurst returns the limit with the period of l and the given burst.
func withBurst(l limiter.Limit, burst int) limiter.Limit {
	period := time.Duration(math.Round(float64(l.Burst) / float64(l.Rate) * 1e9))
	return limiter.Per(burst, period)
}

// withBursts returns the limits with the period of l and the given bursts, at
// most familySize of them.
func withBursts(l limiter.Limit, bursts []int) []limiter.Limit {
	var limits []limiter.Limit
	for _, b := range bursts {
		limits = append(limits, withBurst(l, b))
	}
	return limits
}

// Coarse returns limits with the period of l that span all possible bursts: the
// powers of 2 from 1 to 2^30.
func Coarse(l limiter.Limit) []limiter.Limit {
	var bursts []int
	for b := 1; b <= maxTokens; b *= 2 {
		bursts = append(bursts, b)
	}
	return withBursts(l, bursts)
}

// Around returns limits with the period of l and a similar burst, from a
// fortieth of it to 32 times it. Each is about 26 % above the one before,
// except that bursts are different whole numbers from 1.
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

// between returns limits with the period of l and bursts spaced evenly between
// two others, without those two.
func between(l limiter.Limit, below, above int) []limiter.Limit {
	var bursts []int
	parts := min(familySize+1, above-below)
	for i := 1; i < parts; i++ {
		bursts = append(bursts, below+(above-below)*i/parts)
	}
	return withBursts(l, bursts)
}

// Count is a limit with the number of requests that it would have denied.
type Count struct {
	Limit  limiter.Limit
	Denied int // requests
}

// Suggestion is the smallest limit found that denies at most a given part of
// the requests.
type Suggestion struct {
	Most     float64 // largest part of the requests that may be denied, from 0 to 1
	Total    int     // requests
	Best     *Count  // smallest limit known to deny at most Most; nil if even the largest tried denies more
	Below    *Count  // largest limit known to deny more; nil if even the smallest tried does not
	Tried    []Count
	Exact    bool // true if every limit between Below and Best was tried
	Lost     Losses
	original limiter.Limit
}

// suggestion returns the smallest of the family's limits that denies at most
// the part most of the requests.
func (f *family) suggestion(l limiter.Limit, most float64) *Suggestion {
	s := &Suggestion{Most: most, Total: f.total, Lost: f.lost.public(), original: l}
	s.take(f)
	return s
}

// take narrows the suggestion by the counts of a family.
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

// next returns limits between Below and Best for another reading. It returns
// none if there is no Best, or no limit between the two.
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

// Refine narrows the suggestion to the smallest possible burst, by as many
// readings of the log as that takes. Each call of read calls its argument for
// every request of the log.
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
