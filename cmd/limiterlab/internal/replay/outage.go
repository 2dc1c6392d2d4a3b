package replay

import (
	"math"
	"time"

	"github.com/seed-e56e777b/limiter"
	shares "github.com/seed-e56e777b/limiter/internal/demand"
)

// lookback is how long before an outage demand is learnt for the shares; what
// is older weighs nothing.
const lookback = float64(10 * time.Minute)

// Policies of an outage, in the order of Admitted.
const (
	policyAsked = iota
	policyCentral
	policyLimiter
	policyFailOpen
	policyFailClosed
	policyPrivate
	policies
)

// admitted is what each policy admits, or whether it admits.
type admitted [policies]int

// outage is what different ways of limiting would have admitted before, in and
// after a spell without Redis.
type outage struct {
	from, to float64
	n        float64
	central  rule
	share    fleetRule
	keys     *table[outageKey]
	pairs    *table[outagePair]
	lost     losses

	phases   [3]admitted // before, in, after
	window   window
	reported []admitted // by bin of the window
}

// outageKey is the state of a key that was asked for in the outage, or shortly
// before it. A key without one is to every policy what it is to the central
// bucket.
type outageKey struct {
	demand   demand
	met      float64
	entered  bool // was asked for in the outage
	settled  bool // the outage's debt was forgiven
	atOutset float64
	fallback tat // of those who take nothing from the central bucket in an outage
	limiter  tat // of this limiter, which charges what the outage used
}

// outagePair is the state of a key in a process.
type outagePair struct {
	demand  demand
	known   bool // the process knew the key before the outage
	entered bool
	share   share
	private tat
}

// demand is a decayed count of attempts, in attempts per nanosecond, at an instant.
type demand struct{ rate, at float64 }

func (d *demand) add(now float64) { *d = demand{d.until(now) + 1/float64(shares.SlowTau), now} }

func (d *demand) until(now float64) float64 {
	return shares.Decay(d.rate, time.Duration(now-d.at), shares.SlowTau)
}

func newOutage(l limiter.Limit, n, most int, from, to float64) *outage {
	o := &outage{from: from, to: to, n: float64(n), central: ruleOf(l), share: newFleetRule(l, n), window: windowAround(from, to)}
	o.reported = make([]admitted, o.window.bins)
	o.keys = newTable(most, func(k *outageKey) {
		o.lost.count(o.spent(k.demand, k.entered) && k.fallback.full(o.lost.now) && k.limiter.full(o.lost.now))
	})
	o.pairs = newTable(most, func(p *outagePair) { o.lost.count(o.spent(p.demand, p.entered)) })
	return o
}

// spent reports whether a demand no longer matters to shares.
func (o *outage) spent(d demand, entered bool) bool {
	now := o.lost.now
	return now >= o.to || !entered && now-d.at > 5*float64(shares.SlowTau)
}

// add takes a request that reaches a process: before is the central bucket
// ahead of it, ok what that decided.
func (o *outage) add(now float64, hash, pair uint64, before tat, ok bool) {
	o.lost.now = now
	a := admitted{policyAsked: 1}
	count(&a[policyCentral], ok)
	switch {
	case now < o.from:
		a.all(ok)
		if now >= o.from-lookback {
			o.learn(now, hash, pair)
		}
		o.phases[0].add(a)
	case now < o.to:
		o.within(now, hash, pair, before, &a)
		o.phases[1].add(a)
	default:
		o.after(now, hash, ok, &a)
		o.phases[2].add(a)
	}
	if i := o.window.bin(now); i >= 0 {
		o.reported[i].add(a)
	}
}

// all sets what every policy but the first two decides.
func (a *admitted) all(ok bool) {
	for p := policyLimiter; p < policies; p++ {
		count(&a[p], ok)
	}
}

func (a *admitted) add(b admitted) {
	for p := range a {
		a[p] += b[p]
	}
}

// learn counts demand before the outage.
func (o *outage) learn(now float64, hash, pair uint64) {
	k, isNew := o.keys.get(hash)
	if isNew {
		k.met = now
	}
	k.demand.add(now)
	p, _ := o.pairs.get(pair)
	p.known = true
	p.demand.add(now)
}

func (o *outage) within(now float64, hash, pair uint64, before tat, a *admitted) {
	k, _ := o.keys.get(hash)
	if !k.entered {
		k.entered = true
		k.fallback, k.limiter = before, before
		k.atOutset = o.central.level(before, o.from)
	}
	p, _ := o.pairs.get(pair)
	if !p.entered {
		p.entered = true
		p.share = o.beginShare(k, p, now)
	}
	a[policyFailOpen] = 1
	count(&a[policyPrivate], o.central.take(&p.private, now))
	if o.share.take(&p.share, now) {
		a[policyLimiter] = 1
		o.central.charge(&k.limiter, now)
	}
}

// beginShare is the bucket of a key that a process is asked for in the outage.
// A process that did not know it takes it for full, and an equal part of it.
func (o *outage) beginShare(k *outageKey, p *outagePair, now float64) share {
	if !p.known {
		return o.share.begin(1/o.n, o.share.burst, now)
	}
	part := o.share.demandShare(k.mean(p.demand, o.from), k.mean(k.demand, o.from))
	return o.share.begin(part, k.atOutset, o.from)
}

// mean is a demand by then. The divisor takes out the bias of a mean that is
// younger than its time constant.
func (k *outageKey) mean(d demand, then float64) float64 {
	return d.until(then) / shares.Risen(max(time.Duration(then-k.met), time.Second), shares.SlowTau)
}

func (o *outage) after(now float64, hash uint64, ok bool, a *admitted) {
	k, known := o.keys.peek(hash)
	if !known || !k.entered {
		a.all(ok)
		return
	}
	if !k.settled {
		k.settled = true
		o.central.settle(&k.limiter, o.to)
	}
	count(&a[policyLimiter], o.central.take(&k.limiter, now))
	if o.central.take(&k.fallback, now) {
		a[policyFailOpen], a[policyFailClosed], a[policyPrivate] = 1, 1, 1
	}
}

// window is the time around an outage that a chart shows.
type window struct {
	from, width float64
	bins        int
}

// windowAround shows as much before and after an outage as it lasts, in bins of
// whole seconds.
func windowAround(from, to float64) window {
	width := max(1e9, math.Ceil((to-from)/20e9)*1e9)
	each := math.Ceil((to - from) / width)
	begin := max(0, from-each*width)
	return window{from: begin, width: width, bins: int(math.Ceil((to + each*width - begin) / width))}
}

// bin is the bin of an instant, or -1.
func (w window) bin(now float64) int {
	i := int(math.Floor((now - w.from) / w.width))
	if i < 0 || i >= w.bins {
		return -1
	}
	return i
}
