package delivery

import (
	"errors"
	"time"

	"github.com/seed-e56e777b/limiter/internal/exchange"
)

// Fate says what became of a report.
type Fate uint8

// What may become of a report. After Delivered and GivenUp it is over, and good
// until the next report is begun; else it waits for the next batch.
const (
	Delivered Fate = iota
	Refused        // Redis has lost state: it wants floors
	Failed
	GivenUp // failed for so long that nobody knows any more whether it was applied
)

// Outcome is what became of one report of a batch.
type Outcome[T any] struct {
	*Report[T]
	Fate Fate
	Lost bool // the partition has lost state
}

// Results is what became of a batch.
type Results[T any] struct {
	Outcomes []Outcome[T]
	Fleet    *exchange.FleetReply // nil: not asked, or failed
	Back     bool                 // the fleet's key had not answered before
	Failures int
	Err      error // one of them
}

// errLost is a server's that is not, or no longer, sound.
var errLost = errors.New("delivery: a report with floors is refused as if it had none")

// errNumber: Redis says that it has applied reports that were never made.
// Somebody else has written a number under this lane's name.
var errNumber = errors.New("delivery: a sequence number that was never given")

// Finish takes in what a call brought.
func (c *Courier[T]) Finish(b *Batch[T], now int64) Results[T] {
	var res Results[T]
	for _, l := range b.lanes {
		res.Outcomes = append(res.Outcomes, c.finishLane(l, b.Sent, now, &res))
	}
	if b.Fleet != nil {
		c.finishFleet(b.Fleet, now, &res)
	}
	c.schedule(b, res.Failures, now)
	return res
}

func (c *Courier[T]) finishFleet(call *exchange.FleetCall, now int64, res *Results[T]) {
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

func (c *Courier[T]) finishLane(l *lane[T], sent, now int64, res *Results[T]) Outcome[T] {
	p, r := &c.parts[l.partition], l.report
	p.end(l)
	out := Outcome[T]{Report: r}
	if r.Err == nil && r.Reply.Status == exchange.Lost && r.Floors {
		r.Err = errLost // to send it again at once, and again, would be a loop without a pause
	}
	if r.Err == nil && r.Reply.Status == exchange.Duplicate && r.Reply.Prev > r.Seq {
		r.Err = errNumber
		l.rename()
	}
	if r.Err != nil {
		p.failed = true
		res.Failures, res.Err = res.Failures+1, r.Err
		out.Fate = Failed
		if now-r.made > int64(forget) {
			out.Fate = GivenUp
			l.close()
		}
		return out
	}
	expired := p.expired(l, r, now)
	jumped := p.clock != 0 && (r.Reply.Now-p.clock)*int64(time.Microsecond)-(now-p.clockAt) > int64(skew)
	p.failed, p.stale, p.okAt, p.clock, p.clockAt = false, false, now, r.Reply.Now, sent
	l.okAt, p.sweepAt = now, 0
	if r.Reply.Wait > 0 {
		p.sweepAt = now + int64(float64(r.Reply.Wait)*max(1, c.Members)*(0.5+c.random.Float64()))
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

// expired reports whether Redis has forgotten the lane's number because all that the
// partition held has expired, a minute after its last bucket was full: that is no loss.
func (p *destination[T]) expired(l *lane[T], r *Report[T], now int64) bool {
	if r.Reply.Prev != 0 {
		return false
	}
	if p.empty(now) {
		p.emptied = now
	}
	return p.emptied != 0 && l.okAt <= p.emptied
}

// empty reports whether all that the partition held, as far as is known, has expired.
func (p *destination[T]) empty(now int64) bool {
	return p.expires != 0 && p.clock+(now-p.clockAt)/int64(time.Microsecond) >= p.expires
}

// schedule sets the time of the next probe.
func (c *Courier[T]) schedule(b *Batch[T], failures int, now int64) {
	switch {
	case b.Probe && failures < len(b.lanes)+calls(b.Fleet):
		c.attempts, c.nextProbe = 0, now // something answers: on to the rest
		if b.Fleet != nil && b.Fleet.Err != nil {
			c.nextProbe += c.backoff()
		}
	case b.Probe:
		c.attempts++
		c.nextProbe = now + c.backoff()
	case failures > 0 && c.nextProbe <= now:
		c.nextProbe = now + c.backoff()
	}
}

func calls(f *exchange.FleetCall) int {
	if f == nil {
		return 0
	}
	return 1
}

// backoff is the time to the next probe: doubled with each in a row that
// failed.
func (c *Courier[T]) backoff() int64 {
	d := min(backoffMost, backoffLeast<<min(c.attempts, 8))
	return int64(float64(d) * (1 + jitter*(2*c.random.Float64()-1)))
}
