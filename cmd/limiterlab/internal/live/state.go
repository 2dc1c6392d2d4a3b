package live

import (
	"slices"
	"time"

	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/report"
	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/store"
	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/worker"
)

// State is what is seen of a run. Times are seconds since its start.
type State struct {
	Run       string    `json:"run"` // another one after a restart of the lab
	Now       float64   `json:"now"`
	Limit     Limit     `json:"limit"`
	Demand    float64   `json:"demand"` // in times the limit
	Load      Load      `json:"load"`
	Calls     Calls     `json:"calls"`
	Redis     Redis     `json:"redis"`
	Processes []Process `json:"processes"`
	First     int       `json:"first"`   // the number of the first of Seconds
	Seconds   []Tally   `json:"seconds"` // complete ones
	Outages   []Outage  `json:"outages"`
	Events    []Event   `json:"events"` // the last ones, in order
}

// Limit is the fleet's limit.
type Limit struct {
	Text  string  `json:"text"`
	Rate  float64 `json:"rate"` // tokens per second
	Burst int     `json:"burst"`
}

// Redis is how the fleet's Redis is.
type Redis struct {
	What  string     `json:"what"`
	Mode  store.Mode `json:"mode"`
	Since float64    `json:"since"`
}

// Process is how one process is. Rates are tokens per second, lately.
type Process struct {
	Number    int     `json:"number"` // from 1
	State     string  `json:"state"`  // of its limiter, or "starting", "stopping"
	Asked     float64 `json:"asked"`
	Admitted  float64 `json:"admitted"`
	Share     float64 `json:"share"`     // of all that was admitted lately
	Remaining int     `json:"remaining"` // whole tokens that it could admit
	Waiting   int     `json:"waiting"`   // callers in Wait
	Age       float64 `json:"age"`       // since the last exchange; negative: there was none
}

// Outage is a time in which Redis gave no answer, and what came of it.
type Outage struct {
	From float64 `json:"from"`
	To   float64 `json:"to"` // up to now, while it goes on
	On   bool    `json:"on"` // it goes on
	Tally
}

// Event is something that happened.
type Event struct {
	At   float64 `json:"at"`
	Text string  `json:"text"`
}

// State is what is seen now: of the seconds those from a number on.
func (l *Lab) State(from int) State {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	l.advanceLocked(now)
	first, seconds := l.account.complete(from)
	s := State{
		Run:       l.name,
		Now:       now.Seconds(),
		Limit:     Limit{report.LimitText(l.cfg.Limit), float64(l.cfg.Limit.Rate), l.cfg.Limit.Burst},
		Demand:    l.demand,
		Load:      l.load,
		Calls:     l.calls,
		Redis:     Redis{l.cfg.Redis.String(), l.mode, l.since.Seconds()},
		Processes: l.processesLocked(),
		First:     first,
		Seconds:   []Tally{},
		Outages:   l.outagesLocked(),
		Events:    slices.Clone(l.news),
	}
	for _, sec := range seconds {
		s.Seconds = append(s.Seconds, sec.Tally)
	}
	return s
}

func (l *Lab) outagesLocked() []Outage {
	outages := []Outage{}
	for _, o := range l.account.outages {
		on := o.To == forever
		outages = append(outages, Outage{
			From: o.From.Seconds(), To: min(o.To, max(l.account.through, o.From)).Seconds(), On: on, Tally: o.Tally,
		})
	}
	return outages
}

func (l *Lab) processesLocked() []Process {
	_, seconds := l.account.complete(0)
	seconds = seconds[max(0, len(seconds)-recently):]
	total := 0
	for _, s := range seconds {
		total += s.Admitted
	}
	list := []Process{}
	for _, p := range l.fleet {
		list = append(list, p.seen(seconds, total))
	}
	return list
}

// seen is what is seen of a process: its part of some seconds in which so many
// tokens were admitted in all.
func (p *process) seen(seconds []second, total int) Process {
	asked, admitted := 0, 0
	for _, s := range seconds {
		asked += s.asked[int32(p.number)]
		admitted += s.admitted[int32(p.number)]
	}
	length := float64(max(1, len(seconds)))
	return Process{
		Number:    p.number + 1,
		State:     p.state(),
		Asked:     float64(asked) / length,
		Admitted:  float64(admitted) / length,
		Share:     float64(admitted) / float64(max(1, total)),
		Remaining: p.status.Remaining,
		Waiting:   p.status.Waiting,
		Age:       p.age(),
	}
}

func (p *process) state() string {
	switch {
	case p.stopping:
		return "stopping"
	case !p.ready:
		return "starting"
	}
	return p.status.State
}

func (p *process) age() float64 {
	if p.status == (worker.Status{}) {
		return -1
	}
	return max(p.status.Age, -time.Second).Seconds()
}
