package logs

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// accessTime is the layout of times in common log format.
const accessTime = "02/Jan/2006:15:04:05 -0700"

// layouts are the written forms of times in JSON and CSV. A time without a zone
// is in UTC.
var layouts = []string{
	time.RFC3339Nano,
	"2006-01-02 15:04:05.999999999Z07:00",
	"2006-01-02 15:04:05.999999999 -0700",
	"2006-01-02T15:04:05.999999999",
	"2006-01-02 15:04:05.999999999",
	accessTime,
}

// clock parses times. It remembers the last one, because most lines of a log
// resemble the line before.
type clock struct {
	layout string // layout of the last written time

	access string // last time in common log format
	last   Entry  // time of access: At, Offset and Whole
}

// readAccess sets the time of e by a text like "10/Oct/2000:13:55:36 -0700".
func (c *clock) readAccess(text []byte, e *Entry) error {
	if len(text) == 0 || string(text) != c.access {
		t, err := time.Parse(accessTime, string(text))
		if err != nil {
			return fmt.Errorf("%q is no time like 10/Oct/2000:13:55:36 -0700", text)
		}
		if err := c.last.setTime(t); err != nil {
			return err
		}
		c.access = string(text)
	}
	e.At, e.Offset, e.Whole = c.last.At, c.last.Offset, c.last.Whole
	return nil
}

// read sets the time of e by a text or by a number since 1970.
func (c *clock) read(text string, e *Entry) error {
	if at, ok := unixTime(text); ok {
		return e.setTime(time.Unix(0, at).UTC())
	}
	for _, layout := range append([]string{c.layout}, layouts...) {
		if t, err := time.Parse(layout, text); err == nil && layout != "" {
			c.layout = layout
			return e.setTime(t)
		}
	}
	return fmt.Errorf("%q is no time: want RFC 3339, or seconds or milliseconds since 1970", text)
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
	whole, fraction, _ := strings.Cut(text, ".")
	n, err := strconv.ParseUint(whole, 10, 63)
	if err != nil {
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
