package replay

import (
	"math"
	"time"

	"github.com/seed-e56e777b/limiter"
	shares "github.com/seed-e56e777b/limiter/internal/demand"
)

// lookback is the time before an outage whose demand decides the shares, in
// nanoseconds. Older demand has decayed to less than e⁻²⁰ of itself.
const lookback = float64(10 * time.Minute)

// Indices of the policies in [admitted].
const (
	policyAsked = iota
	policyCentral
	policyLimiter
	policyFailOpen
	policyFailClosed
	policyPrivate
	policies
)

// admitted has a number of admitted requests for each policy. For a single
// request each is 0 or 1.
type admitted [policies]int

// outage counts the requests that each policy would have admitted before, in
// and after a spell without Redis.
type outage struct {
	from, to float64 // instants
	n        float64 // processes
	central  rule
	share    fleetRule
	keys     *table[outageKey]
	pairs    *table[outagePair]
	lost     losses

	phases   [3]admitted // requests before, in and after the outage
	window   window
	reported []admitted // requests in each bin of the window
}

// outageKey is the state of a key that had requests in the outage, or in the
// lookback before it. For a key without one, all policies have the state of the
// central bucket.
type outageKey struct {
	demand   demand
	met      float64 // instant of the first request in the lookback
	entered  bool    // true if the key had requests in the outage
	settled  bool    // true if the debt of the outage was cancelled
	atOutset float64 // tokens in the central bucket at the beginning of the outage
	fallback tat     // bucket of the policies that take nothing from the central one in an outage
	limiter  tat     // bucket of this limiter, which charges the usage of the outage
}

// outagePair is the state of one key in one process.
type outagePair struct {
	demand  demand
	known   bool // true if the process had requests for the key in the lookback
	entered bool // true if it had some in the outage
	share   share
	private tat
}

// demand is a decayed count of attempts. rate is in attempts per nanosecond, at
// the instant at.
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

// spent reports whether a demand can no longer change a share. That is so after
// the outage. For a key without requests in the outage, it is so five time
// constants after the last one.
func (o *outage) spent(d demand, entered bool) bool {
	now := o.lost.now
	return now >= o.to || !entered && now-d.at > 5*float64(shares.SlowTau)
}

// add counts a request that reaches a process. before is the central bucket
// ahead of the request; ok is true if that bucket admits it.
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

// all counts the same decision for every policy from policyLimiter on.
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

// learn counts a request before the outage as demand.
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

// beginShare returns the bucket of a key in a process at its first request in
// the outage. A process that knew the key has a share by demand. Any other
// takes the bucket for full and has an equal part of it.
func (o *outage) beginShare(k *outageKey, p *outagePair, now float64) share {
	if !p.known {
		return o.share.begin(1/o.n, o.share.burst, now)
	}
	part := o.share.demandShare(k.mean(p.demand, o.from), k.mean(k.demand, o.from))
	return o.share.begin(part, k.atOutset, o.from)
}

// mean returns the mean of a demand at an instant:
//
//	d/(1 − exp(−age/τ)),   age = max(1 s, time since the first request)
//
// The divisor removes the bias of a mean that is younger than its time constant
// τ.
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
	from, width float64 // instant of the beginning; width of a bin in nanoseconds
	bins        int
}

// windowAround returns a window with as much time before and after an outage as
// it lasts, in bins of whole seconds. Near the beginning of the log, the window
// begins with the log.
func windowAround(from, to float64) window {
	width := max(1e9, math.Ceil((to-from)/20e9)*1e9)
	each := math.Ceil((to - from) / width)
	begin := max(0, from-each*width)
	return window{from: begin, width: width, bins: int(math.Ceil((to + each*width - begin) / width))}
}

// bin returns the number of the bin at an instant, or −1 outside the window.
func (w window) bin(now float64) int {
	i := int(math.Floor((now - w.from) / w.width))
	if i < 0 || i >= w.bins {
		return -1
	}
	return i
}
