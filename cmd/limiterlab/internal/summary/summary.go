// Package summary presents a replay: as text for a terminal, and as a page.
package summary

import (
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/logs"
	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/replay"
	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/report"
)

// Summary is a replay with its inputs.
type Summary struct {
	replay.Result
	Names []string // of the inputs
	Key   string
	Read  logs.Counts
	Cut   bool // true if the reading was cut short
}

// source names the inputs.
func (s Summary) source() string {
	name := printable(s.Names[0])
	if more := len(s.Names) - 1; more > 0 {
		name += fmt.Sprintf(" and %d more", more)
	}
	return fmt.Sprintf("%s (%s)", name, strings.Join(s.Read.Formats, ", "))
}

// fact is a number with its meaning.
type fact struct{ Name, Value, Note string }

// facts returns the most important numbers.
func (s Summary) facts() []fact {
	return []fact{
		{"requests", report.Thousands(s.Requests), s.span()},
		{"allowed", report.Thousands(s.Allowed()), percent(s.Allowed(), s.Requests)},
		{"denied", report.Thousands(s.Denied), percent(s.Denied, s.Requests)},
		{"keys", s.upTo(s.Lost.Forgotten) + report.Thousands(s.Keys), ""},
		{"keys denied", s.upTo(s.LostKeys) + report.Thousands(s.DeniedKeys), percent(s.DeniedKeys, s.Keys) + " of all keys"},
	}
}

// upTo marks a count of keys that may have counted some twice.
func (s Summary) upTo(forgotten int) string {
	if forgotten > 0 {
		return "≤ "
	}
	return ""
}

const (
	dateAndTime = "2006-01-02 15:04:05"
	timeOfDay   = "15:04:05"
)

func (s Summary) span() string {
	to := s.To.Format(dateAndTime)
	if s.From.Format(time.DateOnly) == s.To.Format(time.DateOnly) {
		to = s.To.Format(timeOfDay)
	}
	return fmt.Sprintf("%s to %s %s (%v)", s.From.Format(dateAndTime), to, s.From.Format("Z07:00"), s.To.Sub(s.From).Round(time.Second))
}

// percent writes n of m.
func percent(n, m int) string {
	if m == 0 {
		return "–"
	}
	p := 100 * float64(n) / float64(m)
	if n > 0 && p < 0.01 {
		return fmt.Sprintf("%.2g %%", p)
	}
	return fmt.Sprintf("%.2f %%", p)
}

// printable makes text of a log harmless to a terminal.
func printable(s string) string {
	var b strings.Builder
	for _, r := range s {
		if unicode.IsPrint(r) {
			b.WriteRune(r)
		} else {
			b.WriteString(strings.Trim(fmt.Sprintf("%+q", r), "'"))
		}
	}
	return b.String()
}

// topTitle states the number of denied keys shown.
func (s Summary) topTitle() string {
	return fmt.Sprintf("Denied most (%d of %s%s)", len(s.Top), s.upTo(s.LostKeys), report.Thousands(s.DeniedKeys))
}

// way describes the way of a fleet's requests to its processes.
func way(processes int, byKey bool) string {
	switch {
	case processes == 1:
		return "1 process"
	case byKey:
		return fmt.Sprintf("%d processes, all requests of a key at the same one", processes)
	}
	return fmt.Sprintf("%d processes, requests going round", processes)
}

// suggestion describes the limit that would suffice.
func suggestion(s *replay.Suggestion) []string {
	if s.Best == nil {
		return []string{fmt.Sprintf("Even %v would deny %s.", s.Below.Limit, denying(*s.Below, s.Total))}
	}
	said := []string{fmt.Sprintf("%v would deny %s.", s.Best.Limit, denying(*s.Best, s.Total))}
	switch {
	case s.Below == nil && s.Exact:
		return append(said, "There is no smaller one of this period.")
	case s.Below == nil:
		return append(said, "Smaller ones were not tried: give a smaller -limit, or a file in place of a stream.")
	}
	said = append(said, fmt.Sprintf("%v would deny %s.", s.Below.Limit, denying(*s.Below, s.Total)))
	if s.Exact {
		return append(said, "So it is the smallest of this period that will do.")
	}
	return append(said, "Limits between the two were not tried: that takes another reading, which neither a stream nor Ctrl-C allows.")
}

func denying(c replay.Count, total int) string {
	return fmt.Sprintf("%s of %s (%.4g %%)", report.Thousands(c.Denied), report.Thousands(total), 100*float64(c.Denied)/float64(total))
}

// suggestionTitle describes the aim of the suggestion.
func suggestionTitle(s *replay.Suggestion) string {
	return fmt.Sprintf("The smallest limit of the same period that denies at most %g %%", 100*s.Most)
}
