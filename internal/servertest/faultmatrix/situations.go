package faultmatrix

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/seed-e56e777b/limiter"
)

// Situations returns all situations: at full length, or in brief for tests.
func Situations(brief bool) []*Situation {
	length := func(full, short time.Duration) time.Duration {
		if brief {
			return short
		}
		return full
	}
	const s = time.Second
	start := length(4*s, 2*s)
	list := []*Situation{
		brownout(start, length(20*s, 10*s), length(10*s, 4*s)),
		flapping(start, length(10*s, 5*s), length(5*s, 3*s)),
		deploy(start, length(5*s, 4*s), length(15*s, 5*s)),
		inTurn(start, length(5*s, 4*s), length(12*s, 3*s), length(10*s, 2*s)),
		waiting(start, length(6*s, 4*s), length(8*s, 4*s)),
		raise(start, length(2*s, s), length(10*s, 4*s)),
		debt(start, length(15*s, 6*s), length(5*s, 3*s)),
	}
	if !brief {
		list = append(list, deployOfWorkers(start, 5*s, 15*s))
	}
	return list
}

// brownout makes packets late, most of them by less than the timeout of a
// tuned client.
func brownout(start, lasts, rest time.Duration) *Situation {
	const late, notice = 300 * time.Millisecond, time.Second
	end := start + lasts
	return &Situation{
		Name: fmt.Sprintf("each packet late by 0 to %v for %v", late, lasts), Limit: sharedLimit,
		Steps: []Step{
			{start, onWays(func(w *way) { w.Delay, w.Jitter = late/2, late/2 })},
			{end, onWays(repair)},
		},
		Windows: []Window{
			{To: start},
			{From: start + notice, To: end, Least: 0.95, Most: 1.08},
			{From: end, To: end + rest, Least: leastAfter, Most: mostAfter, LeastSecond: 0.5},
		},
	}
}

// flapping stops the server for most of each second.
func flapping(start, lasts, rest time.Duration) *Situation {
	const stopped = 700 * time.Millisecond
	end := start + lasts
	st := &Situation{
		Name: fmt.Sprintf("Redis stopped for %v of each second, for %v", stopped, lasts), Limit: sharedLimit,
		Windows: []Window{{To: start}, {From: start, To: end, Least: 0.9, Most: mostRatio}, {From: end, To: end + rest}},
	}
	for at := start; at < end; at += time.Second {
		st.Steps = append(
			st.Steps,
			Step{at, func(s *service) error { return s.house.server.Freeze() }},
			Step{at + stopped, func(s *service) error { return s.house.server.Thaw() }},
		)
	}
	return st
}

// deploy replaces all processes: the old ones are killed without Close.
func deploy(start, settles, lasts time.Duration) *Situation {
	const together = time.Second
	killed := start + together
	steady := killed + settles
	return &Situation{
		Name: "all processes replaced, the old ones killed without Close", Limit: sharedLimit,
		Steps: []Step{
			{start, (*service).startNew},
			{killed, (*service).killOld},
		},
		Windows: []Window{{To: start}, {From: killed, To: steady}, {From: steady, To: steady + lasts, Least: 0.9, Most: mostAfter}},
	}
}

// deployOfWorkers is a deploy of worker pools. Old and new ones together want
// twice as much until the old ones are killed, and the fleet leaves room for
// half of it: the killed might be alive without Redis.
func deployOfWorkers(start, settles, lasts time.Duration) *Situation {
	st := deploy(start, settles, lasts)
	st.Name, st.Limit, st.Workers = "all processes of 20 waiting workers each replaced, the old ones killed without Close", waitersLimit, 20
	return st
}

// waitersLimit is the limit of a fleet of workers.
var waitersLimit = limiter.Limit{Rate: 50, Burst: 5}

// raise replaces the processes of a limit that is spent for an hour by others of a
// much larger one: the tokens that are left stay, and come back at the new rate.
func raise(start, settles, lasts time.Duration) *Situation {
	st := deploy(start, settles, lasts)
	st.Name, st.Before = "all processes replaced by others with a larger limit, the old one spent for an hour", limiter.Per(sharedLimit.Burst, time.Hour)
	st.Steps = slices.Insert(st.Steps, 0, Step{0, charge(sharedLimit.Burst)})
	st.Windows[1].Least = 0.8
	return st
}

// debt is a charge, by one process, that takes lasts to repay. Two seconds later the server loses
// everything, but the other processes still know the debt.
func debt(start, lasts, rest time.Duration) *Situation {
	const seen, notice = 2 * time.Second, time.Second
	end := start + lasts
	return &Situation{
		Name: fmt.Sprintf("one process charges %v of the limit, FLUSHALL %v later", lasts, seen), Limit: sharedLimit,
		Steps: []Step{
			{start, charge(int(lasts.Seconds() * float64(sharedLimit.Rate)))},
			{start + seen, func(s *service) error {
				rdb := s.house.server.Client()
				defer rdb.Close()
				return rdb.FlushAll(context.Background()).Err()
			}},
		},
		Windows: []Window{{To: start}, {From: start + notice, To: end - notice, Most: 0.05}, {From: end + notice, To: end + notice + rest, Least: 0.9, Most: mostAfter}},
	}
}

// charge returns a step in which one process of each fleet charges tokens.
func charge(n int) func(*service) error {
	return func(s *service) error {
		var errs []error
		for _, f := range s.fleets {
			errs = append(errs, (&fleet{all: f.all[:1]}).send(fmt.Sprint(chargeCommand, n)))
		}
		return errors.Join(errs...)
	}
}

// inTurn has each process lose Redis some time after the one before it, and get
// it back in the same order, a second apart.
func inTurn(start, apart, together, rest time.Duration) *Situation {
	const notice, step = time.Second, time.Second
	lost := start + (processes-1)*apart
	back := lost + together
	whole := back + (processes-1)*step + notice
	st := &Situation{
		Name: fmt.Sprintf("the processes lose Redis in turn, %v apart", apart), Limit: sharedLimit,
		Windows: []Window{
			{To: start},
			{From: lost + notice, To: back, Least: 0.92, Most: 1.08},
			{From: whole, To: whole + rest, Least: leastAfter, Most: mostAfter},
		},
	}
	for i := range time.Duration(processes) {
		st.Steps = append(
			st.Steps,
			Step{start + i*apart, onWay(int(i), func(w *way) { w.DropRequests, w.DropReplies = true, true })},
			Step{back + i*step, onWay(int(i), repair)},
		)
	}
	slices.SortFunc(st.Steps, func(a, b Step) int { return cmp.Compare(a.At, b.At) })
	return st
}

// waiting has pools of workers wait, while the server is killed and comes back
// empty.
func waiting(start, lasts, rest time.Duration) *Situation {
	const settles = 2 * time.Second
	most := 1.5 * (1 + float64(waitersLimit.Burst)/float64(waitersLimit.Rate))
	back := start + lasts
	window := func(from, to time.Duration) Window {
		return Window{From: from, To: to, Least: 0.9, Most: 1.1, MostSecond: most}
	}
	return &Situation{
		Name: "20 workers of each process wait; Redis killed, back empty", Limit: waitersLimit, Workers: 20,
		Steps: []Step{
			{start, func(s *service) error { return s.house.server.Kill() }},
			{back, func(s *service) error { return s.house.server.Restart(false) }},
		},
		Windows: []Window{window(0, start), window(start+settles, back), window(back+settles, back+settles+rest)},
	}
}

func repair(w *way) { *w = way{Target: w.Target} }

// onWay returns a step that changes the way of one process of each fleet.
func onWay(i int, change func(*way)) func(*service) error {
	return func(s *service) error {
		s.ways[i].set(change)
		return nil
	}
}

// onWays returns a step that changes all ways.
func onWays(change func(*way)) func(*service) error {
	return func(s *service) error {
		for _, p := range s.ways {
			p.set(change)
		}
		return nil
	}
}

// startNew starts as many processes again. The demand is spread over all.
func (s *service) startNew() error {
	s.job.Service.Among, s.job.Service.Limit = 2*processes, s.limit
	errs := []error{s.startProcesses()}
	for _, f := range s.fleets {
		errs = append(errs, f.send(fmt.Sprint(2*processes)))
	}
	return errors.Join(errs...)
}

// killOld kills the processes of each fleet that started first. Their demand
// moves to the others.
func (s *service) killOld() error {
	var errs []error
	for _, f := range s.fleets {
		for _, p := range f.all[:processes] {
			errs = append(errs, p.cmd.Process.Kill())
		}
		errs = append(errs, (&fleet{all: f.all[processes:]}).send(fmt.Sprint(processes)))
	}
	return errors.Join(errs...)
}
