package logs

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// layouts are the written forms of times. A fraction of a second may follow the
// seconds in each, behind a point or a comma. A time without a zone is in UTC.
var layouts = []string{
	"02/Jan/2006:15:04:05 -0700", // access logs
	time.RFC3339,
	"2006-01-02T15:04:05Z0700",
	"2006-01-02T15:04:05Z07",
	"2006-01-02T15:04:05",
	"2006-01-02T15:04:05 Z07:00",
	"2006-01-02T15:04:05 Z0700",
	"2006-01-02 15:04:05Z07:00",
	"2006-01-02 15:04:05Z0700",
	"2006-01-02 15:04:05 Z07:00",
	"2006-01-02 15:04:05 Z0700",
	"2006-01-02 15:04:05 UTC",
	"2006-01-02 15:04:05 -0700 UTC",
	"2006-01-02 15:04:05Z07",
	"2006-01-02 15:04:05",
	"2006/01/02 15:04:05",
	"02/Jan/2006:15:04:05",   // HAProxy
	"Jan 2, 2006 @ 15:04:05", // Kibana
	time.ANSIC,
	time.RFC1123,
	time.RFC1123Z,
}

// clock parses times. It remembers the last one, because most lines of a log
// resemble the line before.
type clock struct {
	layout string // layout of the last written time
	text   string // last time
	last   Entry  // time of text: At, Offset and Whole
}

// read sets the time of e by a text or by a number since 1970.
func (c *clock) read(text []byte, e *Entry) error {
	if len(text) == 0 || string(text) != c.text {
		if err := c.parse(string(text)); err != nil {
			return err
		}
	}
	e.At, e.Offset, e.Whole = c.last.At, c.last.Offset, c.last.Whole
	return nil
}

// parse sets the last time.
func (c *clock) parse(text string) error {
	trimmed := strings.TrimSuffix(strings.TrimPrefix(text, "["), "]")
	t, ok := c.written(trimmed)
	if !ok {
		at, isNumber := unixTime(trimmed)
		if !isNumber {
			return fmt.Errorf("%q is no time: want RFC 3339, the time of access logs, or seconds or milliseconds since 1970", shorten([]byte(text)))
		}
		t = time.Unix(0, at).UTC()
	}
	if err := c.last.setTime(t); err != nil {
		c.text = ""
		return err
	}
	c.text = text
	return nil
}

// written reads a time in one of the layouts, first in that of the last time.
func (c *clock) written(text string) (time.Time, bool) {
	if c.layout != "" {
		if t, err := time.Parse(c.layout, text); err == nil {
			return t, true
		}
	}
	if !strings.ContainsAny(text, "-/:") {
		return time.Time{}, false
	}
	for _, layout := range layouts {
		if t, err := time.Parse(layout, text); err == nil {
			c.layout = layout
			return t, true
		}
	}
	return time.Time{}, false
}

// Bounds of the accepted times. Within them, nanoseconds since 1970 fit an int64.
var (
	earliest = time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC)
	latest   = time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC)
)

func (e *Entry) setTime(t time.Time) error {
	if t.Before(earliest) || t.After(latest) {
		return errors.New("the time is not between 1970 and 2200")
	}
	_, e.Offset = t.Zone()
	e.At, e.Whole = t.UnixNano(), t.Nanosecond() == 0
	return nil
}

// leastTime is the least number that is a time, in 1973. Smaller ones are
// durations, sizes or numbers of lines.
const leastTime = 1e8

// units are the units of a number since 1970, found by its size. They are right
// for times from 1973 to the year 5000.
var units = []struct {
	below uint64 // least number that is too large for the unit
	nanos int64  // nanoseconds in one unit
}{
	{1e11, int64(time.Second)},
	{1e14, int64(time.Millisecond)},
	{1e17, int64(time.Microsecond)},
	{1e19, 1},
}

// unixTime returns a number since 1970, with or without a fraction, in
// nanoseconds.
func unixTime(text string) (int64, bool) {
	if strings.ContainsAny(text, "eE") { // as some programs write large numbers
		f, err := strconv.ParseFloat(text, 64)
		if err != nil || f < leastTime || f > math.MaxInt64 {
			return 0, false
		}
		text = strconv.FormatFloat(f, 'f', -1, 64)
	}
	whole, fraction, _ := strings.Cut(text, ".")
	n, err := strconv.ParseUint(whole, 10, 63)
	if err != nil || n < leastTime {
		return 0, false
	}
	for _, u := range units {
		if n >= u.below {
			continue
		}
		part, ok := fractionOf(fraction, u.nanos)
		return int64(n)*u.nanos + part, ok && n < uint64(math.MaxInt64/u.nanos)
	}
	return 0, false
}

// fractionOf returns the digits after a decimal point in nanoseconds. unit is
// the nanoseconds in one unit of the number.
func fractionOf(digits string, unit int64) (int64, bool) {
	part := int64(0)
	for _, d := range digits {
		if d < '0' || d > '9' {
			return 0, false
		}
		unit /= 10
		part += int64(d-'0') * unit
	}
	return part, true
}
