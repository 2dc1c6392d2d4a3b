package main

import (
	"fmt"
	"slices"
	"time"

	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/report"
	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/trace"
	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/worker"
)

// observer shows a run while it goes on, in the order of time.
type observer interface {
	Second(report.Second)
	Note(report.Note)
}

// collector merges the workers' reports. One goroutine owns it.
type collector struct {
	observer observer
	epoch    time.Time

	requests []trace.Request
	levels   []trace.Level
	through  []time.Duration // per process: end of the time covered by its reports
	status   []worker.Status // per process: the last
	ended    []bool          // per process
	seconds  []report.Second // not shown yet
	shown    int             // number of seconds shown
	notes    []report.Note   // not shown yet, in the order of time
}

func newCollector(n int, epoch time.Time, o observer) *collector {
	return &collector{
		observer: o,
		epoch:    epoch,
		through:  make([]time.Duration, n),
		status:   make([]worker.Status, n),
		ended:    make([]bool, n),
	}
}

// gather takes reports and notes until both have ended. At the end of the
// reports it calls endNotes, to end the notes.
func (c *collector) gather(reports <-chan worker.Report, notes <-chan report.Note, endNotes func()) {
	for reports != nil || notes != nil {
		select {
		case r, ok := <-reports:
			if !ok {
				reports = nil
				endNotes()
				continue
			}
			c.add(r)
		case n, ok := <-notes:
			if !ok {
				notes = nil
				continue
			}
			c.note(n)
		}
	}
}

// add takes one report.
func (c *collector) add(r worker.Report) {
	c.requests = append(c.requests, r.Requests...)
	for _, q := range r.Requests {
		c.count(q)
	}
	c.keepStatus(r)
	c.keepLevel(r)
	c.through[r.Process], c.status[r.Process], c.ended[r.Process] = r.Through, r.Status, r.Ended
	for _, n := range r.Notes {
		c.note(report.Note{At: n.Time.Sub(c.epoch), Text: fmt.Sprintf("process %d: %s", r.Process+1, n.Text)})
	}
	c.show()
}

// count adds one request to its second.
func (c *collector) count(q trace.Request) {
	s := c.second(q.At)
	s.Asked += int(q.Cost)
	if q.Admitted {
		s.Admitted[q.Process] += int(q.Cost)
	}
}

// keepStatus gives the seconds that end within a report the status before it.
func (c *collector) keepStatus(r worker.Report) {
	st := c.status[r.Process]
	for at := c.through[r.Process].Truncate(time.Second); at+time.Second <= r.Through; at += time.Second {
		s := c.second(at)
		s.States[r.Process], s.Ages[r.Process] = st.State, st.Age
		s.Waiting += st.Waiting
	}
}

// keepLevel takes a report's number of waiting callers as that of all the time
// since the report before it.
func (c *collector) keepLevel(r worker.Report) {
	if r.Status.Waiting > 0 {
		c.levels = append(c.levels, trace.Level{Span: trace.Span{From: c.through[r.Process], To: r.Through}, Callers: r.Status.Waiting})
	}
}

// second returns the second that holds an instant not shown yet.
func (c *collector) second(at time.Duration) *report.Second {
	i := int(at/time.Second) - c.shown
	for len(c.seconds) <= i {
		n := len(c.through)
		c.seconds = append(c.seconds, report.Second{
			End:      time.Duration(c.shown+len(c.seconds)+1) * time.Second,
			Admitted: make([]int, n),
			States:   make([]string, n),
			Ages:     make([]time.Duration, n),
		})
	}
	return &c.seconds[i]
}

// note adds a note, to be shown at its time.
func (c *collector) note(n report.Note) {
	i := slices.IndexFunc(c.notes, func(later report.Note) bool { return later.At > n.At })
	if i < 0 {
		i = len(c.notes)
	}
	c.notes = slices.Insert(c.notes, i, n)
}

// show shows the seconds that every process has reported in full.
func (c *collector) show() {
	known := c.known()
	for len(c.seconds) > 0 && c.seconds[0].End <= known {
		c.showNotes(c.seconds[0].End)
		c.closeEnded(&c.seconds[0])
		c.observer.Second(c.seconds[0])
		c.seconds = c.seconds[1:]
		c.shown++
	}
	c.showNotes(known)
}

// known returns the end of the time that every running process has reported.
func (c *collector) known() time.Duration {
	known := slices.Max(c.through)
	for k, through := range c.through {
		if !c.ended[k] {
			known = min(known, through)
		}
	}
	return known
}

// closeEnded marks the processes that ended before the end of a second.
func (c *collector) closeEnded(s *report.Second) {
	for k, ended := range c.ended {
		if ended && c.through[k] < s.End {
			s.States[k] = c.status[k].State
		}
	}
}

func (c *collector) showNotes(before time.Duration) {
	for len(c.notes) > 0 && c.notes[0].At < before {
		c.observer.Note(c.notes[0])
		c.notes = c.notes[1:]
	}
}

// end returns the end of the run: the end of the last report.
func (c *collector) end() time.Duration {
	c.showNotes(forever)
	return slices.Max(c.through)
}
