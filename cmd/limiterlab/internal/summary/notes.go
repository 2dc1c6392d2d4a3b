package summary

import (
	"fmt"
	"strings"
	"time"

	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/replay"
	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/report"
)

// notes returns the facts on which the trust in the numbers depends.
func (s Summary) notes() []string {
	var notes []string
	add := func(yes bool, format string, args ...any) {
		if yes {
			notes = append(notes, fmt.Sprintf(format, args...))
		}
	}
	add(s.Cut, "Interrupted: this is what had been read by then.")
	add(s.Read.Unparsed > 0, "%s of %s could not be read.", report.Thousands(s.Read.Unparsed), lines(s.Read.Lines))
	for _, e := range s.Read.Examples {
		add(true, "  %s, line %d: %s: %s", printable(e.File), e.Line, printable(e.Why.Error()), printable(e.Text))
	}
	add(s.Read.Other == 1, "1 of %s is no request, and was passed over.", lines(s.Read.Lines))
	add(s.Read.Other > 1, "%s of %s are no requests, and were passed over.", report.Thousands(s.Read.Other), lines(s.Read.Lines))
	if e := s.Read.Passed; e != nil && s.Read.Other > 0 {
		add(true, "  %s, line %d: %s: %s", printable(e.File), e.Line, printable(e.Why.Error()), printable(e.Text))
	}
	for _, field := range s.Read.Clients {
		add(true, "The client is in the field %q.", field)
	}
	add(s.Read.NoKey > 0, "Requests without the key (empty, or \"-\"), which are not limited, and not counted above: %s.", report.Thousands(s.Read.NoKey))
	add(s.Back > 0, "The time goes back at %s, by up to %v; they are taken as if it had stood still.", lines(s.Back), s.FarBack)
	add(s.FarBack > time.Minute, "  That is much: are the files in the order of time, and is every clock right?")
	add(s.WholeSeconds && s.period() < 10*time.Second,
		"The times are whole seconds: what came in one second counts as simultaneous, so a limit per %v looks stricter than it is.", s.period())
	notes = append(notes, s.bounds()...)
	if o := s.Outage; o != nil {
		add(o.From.After(s.To) || !o.To.After(s.From), "The outage lies outside the log.")
	}
	return notes
}

// leastDoubt is the least number of requests of a log whose keys are doubted.
const leastDoubt = 20

// mostBalancers is the number of keys up to which private addresses seem to be
// those of balancers.
const mostBalancers = 3

// Doubts returns the reasons for which the keys or times of the log may not be
// those of clients.
func (s Summary) Doubts() []string {
	if s.Requests < leastDoubt {
		return nil
	}
	var doubts []string
	add := func(yes bool, format string, args ...any) {
		if yes {
			doubts = append(doubts, fmt.Sprintf(format, args...))
		}
	}
	k := s.Read.Keys
	nearlyAll := func(n int) bool { return 10*n >= 9*k.Requests }
	often, one := k.Often()
	const name = "If the log has the client in another field, name it with -key addr:FIELD"
	switch {
	case one && nearlyAll(k.Internal):
		add(true, "Nearly all requests have the key %s, a private address: is it a balancer's? %s.", printable(often), name)
	case nearlyAll(k.Internal):
		add(s.Keys <= mostBalancers, "Nearly all requests have one of %d private addresses as a key: are they balancers'? %s.", s.Keys, name)
	case one && s.Key == "ip":
		add(true, "Nearly all requests have the key %s: is it one client? %s.", printable(often), name)
	}
	add(nearlyAll(k.Ports), "The keys have ports, so that each connection has a key of its own: -key addr:FIELD cuts the port.")
	add(nearlyAll(k.Times), "The keys are times: do they name clients?")
	named := s.Key == "user" || s.Key == "status" || strings.HasSuffix(strings.ToLower(s.Key), "id")
	add(nearlyAll(k.Numbers) && !named, "The keys are numbers: do they name clients?")
	add(10*s.Keys >= 9*s.Requests && s.Lost.Forgotten == 0, "Nearly every request has a key of its own: do the keys name clients?")
	add(s.Read.Repeated > k.Requests/4, "%s have the request ID of an earlier one: are there two lines for each request? Keep one of them.", lines(s.Read.Repeated))
	add(s.From.Equal(s.To), "All requests have the same time: does its field hold the time of the request?")
	return doubts
}

// lines counts lines in words.
func lines(n int) string {
	if n == 1 {
		return "1 line"
	}
	return report.Thousands(n) + " lines"
}

// period returns the time in which an empty bucket is full again.
func (s Summary) period() time.Duration {
	return time.Duration(float64(s.Limit.Burst) / float64(s.Limit.Rate) * 1e9).Round(time.Millisecond)
}

// bounds names the tables that were too small.
func (s Summary) bounds() []string {
	var notes []string
	add := func(by string, l replay.Losses) {
		if l.Forgotten == 0 {
			return
		}
		consequence := "none of them before its bucket was full again, so that no decision changed"
		if l.Early > 0 {
			consequence = fmt.Sprintf("%s of them before their buckets were full again: those that came back found a full one, and too little was denied", report.Thousands(l.Early))
		}
		notes = append(notes, fmt.Sprintf("The bound of %s keys (-max-keys) was hit%s: %s were forgotten, %s.",
			report.Thousands(s.MaxKeys), by, report.Thousands(l.Forgotten), consequence))
	}
	add("", s.Lost)
	if s.LostKeys > 0 {
		notes = append(notes, fmt.Sprintf("The bound of %s denied keys (-max-keys) was hit: %s were forgotten, so that the keys denied most may lack some.",
			report.Thousands(s.MaxKeys), report.Thousands(s.LostKeys)))
	}
	if s.Fleet != nil {
		add(" by the fleet's pairs of key and process", s.Fleet.Lost)
	}
	if s.Outage != nil {
		add(" by the outage's keys, and pairs of key and process", s.Outage.Lost)
	}
	if s.Suggestion != nil {
		add(" by the suggestion", s.Suggestion.Lost)
	}
	return notes
}
