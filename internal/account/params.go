package account

import (
	"time"

	"github.com/seed-e56e777b/limiter/internal/mono"
	"github.com/seed-e56e777b/limiter/internal/outage"
)

// Times in units of others, and a weight.
const (
	RelearnTaus    = 3      // time for which shares are held after a loss or a lapse, in τ
	lapseTaus      = 1.5    // time without a reply after which demand is learnt anew, in τ: a failed call or two are less
	GrantIntervals = 10     // time after which a grant that no reply has renewed has expired, in T
	newsRounds     = 4      // longest time that news takes to arrive, in H
	MeanWeight     = 1. / 8 // weight of the newest value in a running mean
)

// Params is the process's knowledge of its fleet and of its way to Redis. It is replaced
// as a whole and never changed.
type Params struct {
	Fleet     float64       // N, number of processes, with the silent ones
	Scale     float64       // (N − s)/N, least part of a rate that s silent processes leave to the others
	SilentAt  mono.Time     // instant since which a process is silent; later, once the processes that were silent then are gone; 0: none is
	Silence   time.Duration // time without a call after which a process is silent
	lost      float64       // number of processes that are gone and never left; in an outage their demand counts
	Interval  time.Duration // T, time between this process's reports
	RTT       time.Duration // running mean of the round trip
	Tau       time.Duration // τ, time constant of demand, by the slowest process
	Relearn   time.Duration // time for which shares are held after a loss or a lapse
	perTau    float64       // 1/τ, per nanosecond
	GrantTime time.Duration // least time for which a grant lasts
	Without   outage.Rules  // rules that a simulation does without; otherwise none
}

// NewParams returns the parameters of a fleet in which no process is silent.
func NewParams(fleet, lost, scale float64, interval, rtt, tau time.Duration) *Params {
	return &Params{
		Fleet: fleet, lost: lost, Scale: scale, Interval: interval, RTT: rtt, Tau: tau, Relearn: RelearnTaus * tau,
		perTau: 1 / float64(tau), GrantTime: GrantIntervals * interval,
	}
}

// round is H = T + RTT, the time to the next reply.
func (p *Params) round() time.Duration { return p.Interval + p.RTT }

// lapse is the time without a reply after which demand is learnt anew. If each failed
// call was a lapse, a brownout would hold shares for ever.
func (p *Params) lapse() time.Duration { return time.Duration(lapseTaus * float64(p.Tau)) }

// horizon is H in seconds.
func (p *Params) horizon() float64 { return p.round().Seconds() }

// newsDelay is 4·H, the longest time that news takes to arrive. It includes the time
// in which an outage is noticed.
func (p *Params) newsDelay() time.Duration { return newsRounds * p.round() }
