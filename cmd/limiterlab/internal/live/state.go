package live

import (
	"time"

	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/report"
	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/store"
	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/worker"
)

// State is a snapshot of a run. Times are seconds since its start.
type State struct {
	Run       string    `json:"run"` // differs after a restart of the lab
	Now       float64   `json:"now"`
	Limit     Limit     `json:"limit"`
	Demand    float64   `json:"demand"` // in times the limit
	Load      Load      `json:"load"`
	Calls     Calls     `json:"calls"`
	Redis     Redis     `json:"redis"`
	Processes []Process `json:"processes"`
	First     int       `json:"first"`  // number of the first of Slices
	Slices    []Slice   `json:"slices"` // complete, in order, without gaps
	Outages   []Outage  `json:"outages"`
	Events    []Event   `json:"events"` // the latest, in order
}

// Limit is the fleet's limit.
type Limit struct {
	Text  string  `json:"text"`
	Rate  float64 `json:"rate"` // tokens per second
	Burst int     `json:"burst"`
}

// Redis describes the fleet's Redis.
type Redis struct {
	What  string     `json:"what"`
	Mode  store.Mode `json:"mode"`
	Since float64    `json:"since"`
}

// Process describes one process. Rates are tokens per second, over the last
// three seconds.
type Process struct {
	Number    int     `json:"number"` // from 1
	State     string  `json:"state"`  // of its limiter, or "starting" or "stopping"
	Asked     float64 `json:"asked"`
	Admitted  float64 `json:"admitted"`
	Share     float64 `json:"share"`     // of all admitted tokens, over the same time
	Remaining int     `json:"remaining"` // whole tokens it could admit at once
	Waiting   int     `json:"waiting"`   // callers in Wait
	Age       float64 `json:"age"`       // since the last exchange; negative before the first
}

// Slice is a part of the run: one second, or less where an outage begins or ends
// within it.
type Slice struct {
	From float64 `json:"from"`
	To   float64 `json:"to"`
	Tally
}

// Outage is a time in which Redis gave no answer, with the tokens of that time.
type Outage struct {
	From float64 `json:"from"`
	To   float64 `json:"to"` // the present, while it goes on
	On   bool    `json:"on"` // true if it goes on
	Tally
}

// State returns a snapshot with the slices from a number on.
func (l *Lab) State(from int) State {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	l.advanceLocked(now)
	first, slices := l.account.complete(from)
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
		Slices:    []Slice{},
		Outages:   l.outagesLocked(),
		Events:    l.news.events(),
	}
	for _, sl := range slices {
		s.Slices = append(s.Slices, Slice{sl.From.Seconds(), sl.To.Seconds(), sl.Tally})
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
	_, slices := l.account.complete(0)
	for len(slices) > 0 && slices[0].To <= slices[len(slices)-1].To-recently {
		slices = slices[1:]
	}
	total := 0
	for _, s := range slices {
		total += s.Admitted
	}
	list := []Process{}
	for _, p := range l.fleet {
		list = append(list, p.seen(slices, total))
	}
	return list
}

// seen describes a process by its part of the latest slices, in which the fleet
// admitted total tokens.
func (p *process) seen(slices []slice, total int) Process {
	asked, admitted, length := 0, 0, 0.0
	for _, s := range slices {
		asked += s.asked[int32(p.number)]
		admitted += s.admitted[int32(p.number)]
		length += s.Length().Seconds()
	}
	if length == 0 {
		length = 1
	}
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
