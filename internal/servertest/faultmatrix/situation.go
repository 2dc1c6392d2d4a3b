package faultmatrix

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/seed-e56e777b/limiter"
)

// Situation is a sequence of events in a fleet of services. It is checked by the counts
// of seconds, which a Fault's phases do not have.
type Situation struct {
	Name    string
	Limit   limiter.Limit
	Before  limiter.Limit // of the processes that start first; the zero Limit: the same
	Workers int           // of each process, which call Wait; 0: the fleet asks for three times the limit
	Steps   []Step        // in order of time
	Windows []Window      // before, during and after, in this order
}

// Step is an event at an instant of a situation.
type Step struct {
	At time.Duration // since the start of the count
	Do func(*service) error
}

// Window is a part of a situation, and the bounds on the tokens admitted in it.
// Bounds are in multiples of the limit's rate; 0: none.
type Window struct {
	From, To    time.Duration
	Least, Most float64 // of the whole window
	LeastSecond float64
	MostSecond  float64
}

// WithSlack returns the window with wider bounds on its whole and none on its
// seconds, for a machine that may be busy.
func (w Window) WithSlack(below, above float64) Window {
	if w.Least > 0 {
		w.Least -= below
	}
	if w.Most > 0 {
		w.Most += above
	}
	w.LeastSecond, w.MostSecond = 0, 0
	return w
}

// service is one run of a situation.
type service struct {
	house  *House
	ways   []*proxy // of the i-th process of each fleet
	fleets []*fleet
	job    Job
	limit  limiter.Limit // of processes that start later
}

// Observed is the course of a situation in one fleet.
type Observed struct {
	Situation *Situation
	Kind      Kind
	Seconds   []float64 // admitted in each, over the limit's rate
	counts    []Event
	began     time.Time
}

// Observe runs a situation with a fleet of each kind on one server.
func Observe(ctx context.Context, st *Situation, kinds []Kind) ([]*Observed, error) {
	h, err := plain()
	if err != nil {
		return nil, fmt.Errorf("faultmatrix: %s: %w", st.Name, err)
	}
	defer h.Close()
	s := &service{house: h, limit: st.Limit, job: Job{Service: &Service{Limit: cmp.Or(st.Before, st.Limit), Workers: st.Workers, Among: processes}}}
	defer s.stop()
	began, err := s.run(ctx, st, kinds)
	if err != nil {
		return nil, fmt.Errorf("faultmatrix: %s: %w", st.Name, err)
	}
	s.stop() // so that every count has arrived
	out := make([]*Observed, len(s.fleets))
	for i, f := range s.fleets {
		out[i] = observed(st, f, began)
	}
	return out, nil
}

// run starts the fleets, and returns the instant at which the count began.
func (s *service) run(ctx context.Context, st *Situation, kinds []Kind) (began time.Time, err error) {
	for range processes {
		p, err := newProxy(s.house.server.Addr())
		if err != nil {
			return began, err
		}
		s.house.closeLater(p)
		s.ways = append(s.ways, p)
	}
	for _, k := range kinds {
		s.fleets = append(s.fleets, &fleet{kind: k})
	}
	if err := s.startProcesses(); err != nil {
		return began, err
	}
	for _, f := range s.fleets {
		if !f.every(20*time.Second, isSynced) {
			return began, fmt.Errorf("the %s fleet never got in step", f.kind)
		}
	}
	pause(ctx, 2*time.Second)
	began = time.Now()
	for _, step := range st.Steps {
		pause(ctx, time.Until(began.Add(step.At)))
		if err := step.Do(s); err != nil {
			return began, fmt.Errorf("after %v: %w", step.At, err)
		}
	}
	pause(ctx, time.Until(began.Add(st.end()+countEvery)))
	return began, ctx.Err()
}

// startProcesses adds a process for each way to each fleet.
func (s *service) startProcesses() error {
	for _, f := range s.fleets {
		for _, w := range s.ways {
			j := s.job
			j.Kind, j.Addrs = f.kind, []string{w.addr()}
			p, err := startProcess(j)
			if err != nil {
				return err
			}
			f.all = append(f.all, p)
		}
	}
	return nil
}

func (s *service) stop() {
	for _, f := range s.fleets {
		f.stop()
	}
}

func (st *Situation) end() time.Duration { return st.Windows[len(st.Windows)-1].To }

func observed(st *Situation, f *fleet, began time.Time) *Observed {
	o := &Observed{Situation: st, Kind: f.kind, began: began}
	for _, p := range f.all {
		for _, e := range p.allEvents() {
			if e.Admitted > 0 {
				o.counts = append(o.counts, e)
			}
		}
	}
	o.Seconds = o.secondsOf(0, st.end())
	return o
}

// ratio returns the tokens admitted from one instant to another over the refill
// of that time.
func (o *Observed) ratio(from, to time.Duration) float64 {
	admitted := 0
	for _, e := range o.counts {
		if at := e.At.Sub(o.began); at >= from && at < to {
			admitted += e.Admitted
		}
	}
	return float64(admitted) / (to - from).Seconds() / float64(o.Situation.Limit.Rate)
}

// secondsOf returns the ratio of each whole second.
func (o *Observed) secondsOf(from, to time.Duration) (list []float64) {
	for ; from+time.Second <= to; from += time.Second {
		list = append(list, o.ratio(from, from+time.Second))
	}
	return list
}

// Failed returns the requirements that were not met.
func (o *Observed) Failed() []Mark { return o.FailedOf(o.Situation.Windows) }

// FailedOf returns the requirements of these windows that were not met.
func (o *Observed) FailedOf(windows []Window) (failed []Mark) {
	for i, w := range windows {
		name := []string{before, during, after}[i]
		check := func(figure string, got, least, most float64) {
			if most == 0 {
				most = math.Inf(1)
			}
			if got < least || got > most {
				failed = append(failed, Mark{What: figure + " " + name, Note: fmt.Sprintf("%.3f of the limit", got)})
			}
		}
		seconds := o.secondsOf(w.From, w.To)
		check("admitted", o.ratio(w.From, w.To), w.Least, w.Most)
		check("the least second", slices.Min(seconds), w.LeastSecond, 0)
		check("the most second", slices.Max(seconds), 0, w.MostSecond)
	}
	return failed
}
