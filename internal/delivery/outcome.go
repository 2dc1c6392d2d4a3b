package delivery

import (
	"errors"
	"time"

	"github.com/seed-e56e777b/limiter/internal/exchange"
	"github.com/seed-e56e777b/limiter/internal/mono"
)

// Fate is the result of a report.
type Fate uint8

// The results of a report. Delivered and GivenUp end it, and it is valid until the
// next report is begun. Otherwise it waits for the next batch.
const (
	Delivered Fate = iota
	Refused        // Redis has lost state: it needs floors
	Failed         // it may have been applied
	GivenUp        // failed for so long that Redis no longer knows whether it was applied
)

// Outcome is the outcome of one report of a batch.
type Outcome[T any] struct {
	*Report[T]
	Fate Fate
	Lost bool // true if the partition has lost state
}

// Results is the outcome of a batch.
type Results[T any] struct {
	Outcomes []Outcome[T]
	Fleet    *exchange.FleetReply // nil: not called, or failed
	Back     bool                 // true if the fleet's key had failed before
	Failures int                  // failed calls
	Err      error                // the error of one of them
}

// errLost is the error of an unsound server: a report with floors can't be Lost.
var errLost = errors.New("delivery: a report with floors is refused as if it had none")

// errNumber is the error of a number that this lane has not reached: another
// program has written under the lane's ID.
var errNumber = errors.New("delivery: a sequence number that was never given")

// Finish applies the results of a call.
func (c *Courier[T]) Finish(b *Batch[T], now mono.Time) Results[T] {
	var res Results[T]
	for _, l := range b.lanes {
		res.Outcomes = append(res.Outcomes, c.finishLane(l, b.Sent, now, &res))
	}
	if b.Fleet != nil {
		c.finishFleet(b.Fleet, now, &res)
	}
	c.schedule(b, res.Failures, now)
	c.observeFailures(float64(res.Failures) / float64(max(1, len(b.lanes)+calls(b.Fleet))))
	return res
}

// observeFailures takes the part of a batch's calls that failed into their mean.
func (c *Courier[T]) observeFailures(part float64) {
	c.failing += failWeight * (part - c.failing)
	c.degraded = c.failing > failsMost || c.degraded && c.failing > failsLeast
}

func (c *Courier[T]) finishFleet(call *exchange.FleetCall, now mono.Time, res *Results[T]) {
	p := &c.fleet
	p.sentAt = 0
	if call.Err != nil {
		p.failed, c.wary = true, true
		res.Failures, res.Err = res.Failures+1, call.Err
		return
	}
	res.Fleet, res.Back = &call.Reply, p.failed
	p.failed, p.okAt = false, now
}

func (c *Courier[T]) finishLane(l *lane[T], sent, now mono.Time, res *Results[T]) Outcome[T] {
	p, r := &c.parts[l.partition], l.report
	p.end(l)
	out := Outcome[T]{Report: r}
	if r.Err == nil && r.Reply.Status == exchange.Lost && r.Floors {
		r.Err = errLost // as a failure it is retried with back-off, not in a loop
	}
	if r.Err == nil && r.Reply.Status == exchange.Duplicate && r.Reply.Prev > r.Seq {
		r.Err = errNumber
		l.rename()
	}
	if r.Err != nil {
		p.failed = true
		res.Failures, res.Err = res.Failures+1, r.Err
		out.Fate = Failed
		if now.Sub(r.made) > forget {
			out.Fate = GivenUp
			l.close()
		}
		return out
	}
	expired := p.expired(l, r, now)
	jumped := p.clock != 0 && time.Duration(r.Reply.Now-p.clock)*time.Microsecond-now.Sub(p.clockAt) > skew
	p.failed, p.stale, p.okAt, p.clock, p.clockAt = false, false, now, r.Reply.Now, sent
	l.okAt, p.sweepAt = now, 0
	if r.Reply.Wait > 0 {
		p.sweepAt = now + mono.Time(float64(r.Reply.Wait)*max(1, c.Members)*(0.5+c.random.Float64()))
	}
	if r.Reply.Status == exchange.Lost && (len(r.Records) > 0 || !expired) {
		r.Floors, r.refused = true, true
		out.Fate, out.Lost = Refused, !expired
		return out
	}
	if r.Reply.Status == exchange.Applied {
		p.expires = r.Reply.Expires
	}
	unseen := r.Reply.Status != exchange.Duplicate && r.Reply.Prev < r.Seq-1
	out.Lost = jumped || unseen && !r.refused && !expired
	l.close()
	return out
}

// expired reports whether Redis has forgotten the lane's number because the whole
// partition has expired, a minute after its last bucket was full. That is no loss.
func (p *destination[T]) expired(l *lane[T], r *Report[T], now mono.Time) bool {
	if r.Reply.Prev != 0 {
		return false
	}
	if p.empty(now) {
		p.emptied = now
	}
	return p.emptied != 0 && l.okAt <= p.emptied
}

// empty reports whether the whole partition has expired, by its last answer.
func (p *destination[T]) empty(now mono.Time) bool {
	return p.expires != 0 && p.clock+now.Sub(p.clockAt).Microseconds() >= p.expires
}

// schedule sets the instant of the next probe.
func (c *Courier[T]) schedule(b *Batch[T], failures int, now mono.Time) {
	switch {
	case b.Probe && failures < len(b.lanes)+calls(b.Fleet):
		c.attempts, c.nextProbe = 0, now // something answers: on to the rest
		if b.Fleet != nil && b.Fleet.Err != nil {
			c.nextProbe = now.Add(c.backoff())
		}
	case b.Probe:
		c.attempts++
		c.nextProbe = now.Add(c.backoff())
	case failures > 0 && c.nextProbe <= now:
		c.nextProbe = now.Add(c.backoff())
	}
}

func calls(f *exchange.FleetCall) int {
	if f == nil {
		return 0
	}
	return 1
}

// backoff returns the time to the next probe, which doubles with each failed probe
// in a row.
func (c *Courier[T]) backoff() time.Duration {
	d := min(backoffMost, backoffLeast<<min(c.attempts, 8))
	return time.Duration(float64(d) * (1 + jitter*(2*c.random.Float64()-1)))
}
