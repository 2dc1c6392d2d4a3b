package replay

import "github.com/seed-e56e777b/limiter"

// fleet counts the requests of the whole log that n processes without common
// state would have admitted.
type fleet struct {
	n       int       // processes
	private rule      // full limit for each process
	part    rule      // n-th part of the limit for each process
	share   fleetRule // rule of this limiter without Redis
	pairs   *table[fleetPair]
	lost    losses

	allowed struct{ private, part, share int } // requests
}

// fleetPair is the state of one key in one process.
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

// add counts a request for a pair of key and process.
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

// losses counts the entries that a table has evicted.
type losses struct {
	now       float64 // instant of the latest request
	forgotten int     // evicted entries
	early     int     // evicted entries whose bucket was not full; it is full when the key returns
}

func (l *losses) count(full bool) {
	l.forgotten++
	count(&l.early, !full)
}
