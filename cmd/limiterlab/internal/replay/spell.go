package replay

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Spell is a stretch of a log in the form in which a user writes it.
type Spell struct {
	text   string
	from   moment
	to     moment
	length time.Duration // duration in place of to, if above 0
}

// moment is a time of day, an instant or an offset from the beginning of the
// log.
type moment struct {
	ofDay   bool          // true if it is a time of day
	after   time.Duration // time since midnight, or since the beginning of the log
	instant time.Time     // zero if it is not an instant
}

// ParseSpell reads a spell in one of these forms:
//
//	14:00-14:05, 14:00+5m           on the log's clock
//	1h30m-1h35m, 1h30m+5m           from the beginning of the log
//	2026-01-02T14:00:00Z/5m         at an instant
//	2026-01-02T14:00:00Z/2026-01-02T14:05:00Z
func ParseSpell(s string) (Spell, error) {
	sp, err := parseSpell(s)
	if err != nil {
		return Spell{}, fmt.Errorf(`%q: %w; want "14:00-14:05", "14:00+5m", "1h+5m" (from the beginning of the log) or "2026-01-02T14:00:00Z/5m"`, s, err)
	}
	return sp, nil
}

func parseSpell(s string) (Spell, error) {
	for _, separator := range []string{"/", "+", "-"} {
		before, after, ok := strings.Cut(s, separator)
		if !ok {
			continue
		}
		sp := Spell{text: s}
		var err error
		if sp.from, err = parseMoment(before); err != nil {
			return Spell{}, err
		}
		if separator != "-" {
			if sp.length, err = time.ParseDuration(after); err == nil && sp.length > 0 {
				return sp, nil
			}
		}
		if sp.to, err = parseMoment(after); err != nil || separator == "+" {
			return Spell{}, fmt.Errorf("%q is no end", after)
		}
		return sp, sp.check()
	}
	return Spell{}, errors.New("no beginning and end")
}

func (sp Spell) check() error {
	f, t := sp.from, sp.to
	if f.ofDay != t.ofDay || f.instant.IsZero() != t.instant.IsZero() {
		return errors.New("beginning and end are of different kinds")
	}
	if !f.ofDay && t.after <= f.after && !t.instant.After(f.instant) {
		return errors.New("the end is not after the beginning")
	}
	return nil
}

func parseMoment(s string) (moment, error) {
	for _, layout := range []string{"15:04", "15:04:05"} {
		if t, err := time.Parse(layout, s); err == nil {
			return moment{ofDay: true, after: t.Sub(t.Truncate(24 * time.Hour))}, nil
		}
	}
	if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
		return moment{instant: t}, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return moment{}, fmt.Errorf("%q is no time", s)
	}
	return moment{after: d}, nil
}

// String returns the spell as its user wrote it.
func (sp Spell) String() string { return sp.text }

// in returns the beginning and the end of the spell in a log that begins at
// start, in the log's time zone. Of all days, a time of day is on the first on
// which the spell ends after start.
func (sp Spell) in(start time.Time) (from, to time.Time) {
	from = sp.from.in(start)
	to = sp.to.in(start)
	switch {
	case sp.length > 0:
		to = from.Add(sp.length)
	case sp.from.ofDay && !to.After(from):
		to = to.AddDate(0, 0, 1)
	}
	if sp.from.ofDay {
		for !to.After(start) {
			from, to = from.AddDate(0, 0, 1), to.AddDate(0, 0, 1)
		}
	}
	return from, to
}

func (m moment) in(start time.Time) time.Time {
	switch {
	case m.ofDay:
		year, month, day := start.Date()
		return time.Date(year, month, day, 0, 0, 0, 0, start.Location()).Add(m.after)
	case !m.instant.IsZero():
		return m.instant.In(start.Location())
	}
	return start.Add(m.after)
}
