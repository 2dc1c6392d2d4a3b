package replay

import "github.com/seed-e56e777b/limiter"

// fleet is what a fleet of n processes that share nothing would have admitted
// of the whole log.
type fleet struct {
	n       int
	private rule // the full limit for each process
	part    rule // the n-th part for each
	share   fleetRule
	pairs   *table[fleetPair]
	lost    losses

	allowed struct{ private, part, share int }
}

// fleetPair is the state of a key in a process.
type fleetPair struct {
	private, part tat
	share         share
}

func newFleet(l limiter.Limit, n, most int) *fleet {
	f := &fleet{
		n:       n,
		private: ruleOf(l),
		part:    newRule(float64(l.Rate)/float64(n), burstOf(l, n)),
		share:   newFleetRule(l, n),
	}
	f.pairs = newTable(most, func(p *fleetPair) { f.lost.count(p.private.full(f.lost.now) && p.part.full(f.lost.now)) })
	return f
}

// add takes a request that reaches a process.
func (f *fleet) add(now float64, pair uint64) {
	f.lost.now = now
	p, isNew := f.pairs.get(pair)
	if isNew {
		p.share = f.share.begin(1/float64(f.n), f.share.burst, now)
	}
	count(&f.allowed.private, f.private.take(&p.private, now))
	count(&f.allowed.part, f.part.take(&p.part, now))
	count(&f.allowed.share, f.share.take(&p.share, now))
}

func count(n *int, yes bool) {
	if yes {
		*n++
	}
}

// losses count what a table forgot to make room.
type losses struct {
	now       float64
	forgotten int
	early     int // of them, those whose bucket was not full: they begin full when they come again
}

func (l *losses) count(full bool) {
	l.forgotten++
	count(&l.early, !full)
}
