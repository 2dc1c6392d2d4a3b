package account

import (
	"time"

	"github.com/seed-e56e777b/limiter/internal/outage"
)

const TauIntervals = 5 // τ in intervals

const GrantIntervals = 10 // intervals after which a grant that was not renewed has expired

const HoldTaus = 3 // τ for which share mode stays after a loss or a spell of staleness

// Params is what a process knows of its fleet and of its way to Redis.
// It is replaced as a whole, never changed.
type Params struct {
	Fleet     float64       // N, processes, the silent ones included
	Scale     float64       // (N − s)/N: the least that the s silent ones leave of a rate
	SilentAt  int64         // since when some are silent, a minute at most: those that were before are gone; 0: none is
	Silence   time.Duration // after which one is
	lost      float64       // processes that are gone and never left: in an outage their demand counts
	Interval  time.Duration // T_eff
	Rtt       time.Duration // running mean of the round trip
	Tau       time.Duration // time constant of demand: of the slowest process
	Hold      time.Duration // for which share mode stays after a loss or an outage: by this process's own interval
	perTau    float64       // 1/τ, per nanosecond
	GrantTime int64         // nanoseconds for which a grant lasts at least
	Without   outage.Rules  // none, outside of simulations
}

func NewParams(fleet, lost, scale float64, interval, rtt, tau time.Duration) *Params {
	return &Params{
		Fleet: fleet, lost: lost, Scale: scale, Interval: interval, Rtt: rtt, Tau: tau, Hold: HoldTaus * tau,
		perTau: 1 / float64(tau), GrantTime: int64(GrantIntervals * interval),
	}
}

// horizon is H, the time to the next reply, in seconds.
func (p *Params) horizon() float64 { return (p.Interval + p.Rtt).Seconds() }

// newsDelay is how long news may be on its way, with the time that an outage
// takes to be noticed.
func (p *Params) newsDelay() time.Duration { return 4 * (p.Interval + p.Rtt) }
