package faultmatrix

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/seed-e56e777b/limiter/internal/exchange"
	"github.com/seed-e56e777b/limiter/internal/redisstore"
)

// Pace is the lengths of the parts of a run.
type Pace struct {
	Settle   time.Duration // time after all are synced, before the count
	Before   time.Duration
	After    time.Duration
	Patience time.Duration // longest wait for the return to Synced
	Unseen   time.Duration // longest extension of an outage, until all processes have noticed it
}

// Measured is the results of a fault for one fleet.
type Measured struct {
	Fault    *Fault
	Topology string
	Kind     Kind
	Began    time.Time // begin of the fault
	Ended    time.Time // end of its cause

	Phases   map[string]FleetPhase
	Back     time.Duration // time until all processes were synced for good, from the end of the cause or by Want.FromIt; negative: never
	Degraded bool          // true if all processes were degraded, or had not been reached yet
	Drained  bool          // true if all usage of the exact key was exchanged
	Admitted int           // tokens of the exact key admitted
	Charged  float64       // tokens of the exact key in Redis
	Rate     float64       // tokens of the exact key admitted per second, by the fleet
	Lines    int           // log lines after the begin, of the process with most
	Changes  int           // changes of state, of the same process
	Foreign  int           // lines of go-redis, of the process with most
	Events   []Event       // events of that process
	Lasted   time.Duration // length of the run, from the fault's begin
}

// FleetPhase is the work of a fleet in a phase.
type FleetPhase struct {
	Ratio       float64 // admitted over the limit
	Allow, Bare Tail
}

// The phases of a run.
const (
	before    = "before"
	during    = "during"
	returning = "returning"
	after     = "after"
	end       = "end"
)

// drainPatience is longer than the longest known call of a client with go-redis's
// defaults.
const drainPatience = 100 * time.Second

// aftermath is the least length of the phase of a fault.
const aftermath = 2 * time.Second

// Run makes a fault happen to a fleet of each kind.
func Run(ctx context.Context, f *Fault, kinds []Kind, pace Pace) (out []*Measured, err error) {
	h, err := f.House()
	if err != nil {
		return nil, fmt.Errorf("faultmatrix: %s: %w", f.Name, err)
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	r := &run{fault: f, house: h, pace: pace}
	defer func() {
		for _, fl := range r.fleets {
			fl.stop()
		}
	}()
	if err := r.upToTheEnd(ctx, kinds); err != nil {
		return nil, fmt.Errorf("faultmatrix: %s: %w", f.Name, err)
	}
	var all sync.WaitGroup
	out = make([]*Measured, len(r.fleets))
	errs := make([]error, len(r.fleets))
	for i, fl := range r.fleets {
		all.Go(func() { out[i], errs[i] = r.after(ctx, fl) })
	}
	all.Wait()
	return out, errors.Join(errs...)
}

type run struct {
	fault  *Fault
	house  *House
	pace   Pace
	fleets []*fleet
	began  time.Time
	ended  time.Time
}

// upToTheEnd starts the fleets, and begins and ends the fault.
func (r *run) upToTheEnd(ctx context.Context, kinds []Kind) error {
	if r.fault.Start {
		if err := r.inject(ctx); err != nil {
			return err
		}
	}
	for _, k := range kinds {
		j := r.house.Job
		j.Kind = k
		fl, err := startFleet(j)
		if err != nil {
			return err
		}
		r.fleets = append(r.fleets, fl)
	}
	if !r.fault.Start {
		if err := r.awaitSettled(); err != nil {
			return err
		}
		if err := r.inject(ctx); err != nil {
			return err
		}
	} else if err := r.send(during); err != nil {
		return err
	}
	pause(ctx, time.Until(r.began.Add(r.fault.Lasts)))
	r.awaitNotice()
	err := r.heal(ctx)
	pause(ctx, time.Until(r.began.Add(aftermath)))
	return err
}

// awaitNotice waits until no process of a fleet without Redis is synced.
func (r *run) awaitNotice() {
	if !r.fault.Want.Outage || r.fault.Lasts == 0 {
		return
	}
	for _, fl := range r.fleets {
		fl.every(r.pace.Unseen, func(p *process) bool { return !isSynced(p) })
	}
}

// awaitSettled waits until the fleets are in step, and for the phase before.
func (r *run) awaitSettled() error {
	for _, fl := range r.fleets {
		if !fl.every(20*time.Second, isSynced) {
			return fmt.Errorf("the %s fleet never got in step", fl.kind)
		}
	}
	<-time.After(r.pace.Settle)
	if err := r.send(before); err != nil {
		return err
	}
	<-time.After(r.pace.Before)
	return nil
}

func (r *run) inject(ctx context.Context) error {
	r.began = time.Now()
	if err := r.send(during); err != nil {
		return err
	}
	if err := r.fault.Inject(ctx, r.house); err != nil {
		return fmt.Errorf("inject: %w", err)
	}
	r.ended = time.Now()
	if !r.house.Struck.IsZero() {
		r.began = r.house.Struck
	}
	return nil
}

func (r *run) heal(ctx context.Context) error {
	if r.fault.Heal == nil {
		return nil
	}
	if err := r.fault.Heal(ctx, r.house); err != nil {
		return fmt.Errorf("heal: %w", err)
	}
	r.ended = time.Now()
	if !r.house.Back.IsZero() {
		r.ended = r.house.Back
	}
	return nil
}

func (r *run) send(phase string) error {
	for _, fl := range r.fleets {
		if err := fl.send(phase); err != nil {
			return err
		}
	}
	return nil
}

// after waits for the return of one fleet, and measures it.
func (r *run) after(ctx context.Context, fl *fleet) (*Measured, error) {
	m := &Measured{
		Fault: r.fault, Topology: r.house.Topology, Kind: fl.kind, Began: r.began, Ended: r.ended,
		Phases: map[string]FleetPhase{},
	}
	if err := fl.send(returning); err != nil {
		return nil, err
	}
	pause(ctx, time.Second) // a fleet that has not noticed yet is not back
	fl.every(r.pace.Patience, isSynced)
	if err := fl.send(after); err != nil {
		return nil, err
	}
	pause(ctx, r.pace.After)
	m.Lasted = time.Since(r.began)
	if err := errors.Join(fl.send(end), fl.send(drainCommand)); err != nil {
		return nil, err
	}
	m.Drained = fl.every(drainPatience, func(p *process) bool { return p.drained() != nil })
	fl.every(r.pace.Patience, isSynced) // a busy machine may have interrupted one
	m.account(fl)
	var err error
	m.Charged, err = r.house.charged(ctx, fl.kind)
	return m, err
}

// account counts the events of the processes.
func (m *Measured) account(fl *fleet) {
	m.Degraded = true
	for _, p := range fl.all {
		if n := p.drained(); n != nil {
			m.Admitted += *n
		}
		m.observeStates(p)
	}
	for _, name := range []string{before, during, returning, after} {
		m.Phases[name] = fl.phase(name)
	}
	m.Rate = processes / (10 * period().Seconds())
}

// observeStates finds the instant at which a process was back, and its number of lines.
func (m *Measured) observeStates(p *process) {
	lines, changes, state, degraded := 0, 0, "connecting", false
	back := time.Time{}
	for _, e := range p.allEvents() {
		state, back = following(e, state, back)
		if e.At.Before(m.Began) {
			continue
		}
		degraded = degraded || state != "synced"
		if e.Log != "" {
			lines++
		}
		if e.State != "" {
			changes++
		}
	}
	switch {
	case state != "synced" || m.Back < 0:
		m.Back = -1
	case back.After(m.Began):
		m.Back = max(m.Back, back.Sub(m.origin()), 0)
	}
	m.Degraded = m.Degraded && degraded
	if m.Events == nil || lines > m.Lines || lines == m.Lines && changes > m.Changes {
		m.Lines, m.Changes, m.Events = lines, changes, p.allEvents()
	}
	m.Foreign = max(m.Foreign, p.foreign)
}

// origin returns the instant from which the return counts.
func (m *Measured) origin() time.Time {
	if m.Fault.Want.FromIt {
		return m.Began
	}
	return m.Ended
}

// following returns the state after an event, and the instant since which it is synced.
func following(e Event, state string, since time.Time) (string, time.Time) {
	if e.State == "" || e.State == state {
		return state, since
	}
	return e.State, e.At
}

// phase adds up the work of the processes in a phase.
func (f *fleet) phase(name string) FleetPhase {
	var sum FleetPhase
	f.every(5*time.Second, func(p *process) bool { return p.phase(name) != nil || name == before })
	for _, p := range f.all {
		ph := p.phase(name)
		if ph == nil {
			continue
		}
		sum.Ratio += float64(ph.Admitted) / ph.Took.Seconds() / float64(sharedLimit.Rate)
		sum.Allow, sum.Bare = sum.Allow.merge(ph.Allow), sum.Bare.merge(ph.Bare)
	}
	return sum
}

// charged returns the tokens of a fleet's exact key in Redis.
func (h *House) charged(ctx context.Context, k Kind) (float64, error) {
	client := h.reader()
	defer client.Close()
	c, field := redisstore.New(client, k.exactPrefix()), "k"+exactKey
	chunk := &exchange.Chunk{
		Partition: exchange.Partition(field, c.Partitions()), ID: exchange.ID{0xff}, Seq: time.Now().UnixMicro(), Floors: true,
		Tau: time.Second, Records: []exchange.Record{{Field: field}},
	}
	for range 50 {
		c.Exchange(ctx, nil, []*exchange.Chunk{chunk})
		if chunk.Err == nil {
			return time.Duration(chunk.Reply.Keys[0].ToGo*1000).Seconds() * float64(exactLimit.Rate), nil
		}
		pause(ctx, syncEvery)
	}
	return math.NaN(), fmt.Errorf("what Redis has can't be read: %w", chunk.Err)
}

// pause waits, unless ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
