// Package limittext writes and reads the text of a limit, such as "100/15m" or
// "20/s burst 5". A rate is in tokens per second.
package limittext

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

const (
	infinite  = math.MaxFloat64 // rate.Inf of golang.org/x/time/rate
	unlimited = "unlimited"
	maxWhole  = 1 << 53 // float64 is exact up to it
	day       = 24 * time.Hour
)

// unit is a unit of time with the name that is written.
type unit struct {
	name string
	time time.Duration
}

// units are the units from the largest to the smallest.
var units = []unit{
	{"d", day},
	{"h", time.Hour},
	{"m", time.Minute},
	{"s", time.Second},
	{"ms", time.Millisecond},
	{"us", time.Microsecond},
	{"ns", time.Nanosecond},
}

// aliases are names of units that time.ParseDuration lacks, with the unit of the same
// length or the day's hours.
var aliases = map[string]unit{
	"sec": {"s", 1}, "second": {"s", 1}, "seconds": {"s", 1},
	"min": {"m", 1}, "minute": {"m", 1}, "minutes": {"m", 1},
	"hour": {"h", 1}, "hours": {"h", 1},
	"d": {"h", day / time.Hour}, "day": {"h", day / time.Hour}, "days": {"h", day / time.Hour},
}

// Format returns the plainest text from which Parse gets exactly this rate and burst.
func Format(rate float64, burst int) string {
	suffix := " burst " + strconv.Itoa(burst)
	if rate == infinite {
		if burst == 0 {
			return unlimited
		}
		return unlimited + suffix
	}
	n := float64(burst)
	fill, exact := timeOf(rate, n)
	exact = exact && int64(burst) <= maxWhole
	perFill := func() string { return number(n) + "/" + duration(fill) }
	switch {
	case exact && isUnit(fill):
		return perFill()
	case isWhole(rate, time.Second) && fill < time.Minute:
		return number(rate) + "/s" + suffix
	case exact && isRound(fill):
		return perFill()
	}
	for _, u := range []unit{{"s", time.Second}, {"m", time.Minute}, {"h", time.Hour}, {"d", day}} {
		if isWhole(rate, u.time) {
			return number(math.Round(rate*u.time.Seconds())) + "/" + u.name + suffix
		}
	}
	if exact {
		return perFill()
	}
	if n, d, ok := fraction(rate); ok {
		return number(n) + "/" + duration(d) + suffix
	}
	return strconv.FormatFloat(rate, 'g', -1, 64) + "/s" + suffix
}

// timeOf returns the time in which the rate gives n tokens, as round as possible. It
// reports whether n tokens in that time are exactly the rate.
func timeOf(rate, n float64) (d time.Duration, exact bool) {
	seconds := n / rate
	if !(seconds > 0 && seconds < math.MaxInt64/1e9) {
		return 0, false
	}
	for _, u := range units {
		for _, s := range [...]float64{seconds, math.Nextafter(seconds, 0), math.Nextafter(seconds, math.Inf(1))} {
			count := math.Round(s / u.time.Seconds())
			if d = time.Duration(count) * u.time; d > 0 && n/d.Seconds() == rate {
				return d, true
			}
		}
	}
	return d, false
}

// isUnit reports whether d is one second, minute, hour or day.
func isUnit(d time.Duration) bool {
	count, u := split(d)
	return count == 1 && u.time >= time.Second
}

// isRound reports whether d is one of the times that limits usually have: whole hours
// or days, or a usual number of seconds or minutes.
func isRound(d time.Duration) bool {
	count, u := split(d)
	switch count {
	case 1, 2, 5, 10, 15, 20, 30, 45, 90:
		return u.time >= time.Second
	}
	return u.time >= time.Hour
}

// isWhole reports whether the rate is exactly a whole number of tokens per unit, from 1.
func isWhole(rate float64, per time.Duration) bool {
	n := math.Round(rate * per.Seconds())
	return n >= 1 && n <= maxWhole && n/per.Seconds() == rate
}

// fraction returns a small number of tokens per whole milliseconds that is exactly the
// rate.
func fraction(rate float64) (n float64, d time.Duration, ok bool) {
	const most = 100
	for n = 1; n <= most; n++ {
		if d, ok = timeOf(rate, n); ok && d%time.Millisecond == 0 {
			return n, d, true
		}
	}
	return 0, 0, false
}

// split returns d as a count of the largest unit that divides it.
func split(d time.Duration) (count time.Duration, u unit) {
	for _, u = range units {
		if d%u.time == 0 {
			break
		}
	}
	return d / u.time, u
}

// duration returns the text of d: "m", "15m", "90s".
func duration(d time.Duration) string {
	count, u := split(d)
	if count == 1 {
		return u.name
	}
	return strconv.FormatInt(int64(count), 10) + u.name
}

// number returns the digits of a whole number.
func number(n float64) string { return strconv.FormatFloat(n, 'f', 0, 64) }

// Parse returns the rate and the burst of a text. It does not check that the two make
// sense together.
func Parse(s string) (rate float64, burst int, err error) {
	words := strings.Fields(s)
	withBurst := len(words) == 3 && words[1] == "burst"
	if len(words) != 1 && !withBurst {
		return 0, 0, errors.New("not understood")
	}
	if withBurst {
		if burst, err = strconv.Atoi(words[2]); err != nil {
			return 0, 0, fmt.Errorf("%q is no burst", words[2])
		}
	}
	if words[0] == unlimited {
		return infinite, burst, nil
	}
	count, per, ok := strings.Cut(words[0], "/")
	if !ok {
		return 0, 0, errors.New("no time given")
	}
	n, err := strconv.ParseFloat(count, 64)
	if err != nil {
		return 0, 0, fmt.Errorf("%q is no number", count)
	}
	d, err := parseTime(per)
	if err != nil {
		return 0, 0, err
	}
	if !withBurst {
		if n < 1 || n != math.Trunc(n) || n > maxWhole {
			return 0, 0, fmt.Errorf("%q is no whole number from 1, and no burst is given", count)
		}
		burst = int(n)
	}
	return n / d.Seconds(), burst, nil
}

// parseTime returns the time of a text such as "m", "15m", "1h30m" or "day".
func parseTime(s string) (time.Duration, error) {
	name := strings.TrimLeft(s, "0123456789.")
	count := strings.TrimSuffix(s, name)
	if count == "" {
		count = "1"
	}
	times := time.Duration(1)
	if alias, ok := aliases[name]; ok {
		name, times = alias.name, alias.time
	}
	d, err := time.ParseDuration(count + name)
	if err != nil || d <= 0 || d > math.MaxInt64/times {
		return 0, fmt.Errorf("%q is no time", s)
	}
	return d * times, nil
}

// Check returns an error if the rate and the burst of a limit do not go together.
func Check(rate float64, burst int) error {
	switch {
	case math.IsNaN(rate), rate < 0, math.IsInf(rate, 0):
		return fmt.Errorf("rate %v: want a finite number of tokens per second from 0, or rate.Inf", rate)
	case burst < 0:
		return fmt.Errorf("burst %d is negative", burst)
	case rate == 0 && burst > 0:
		return fmt.Errorf("rate 0 with burst %d: a burst that never comes back", burst)
	case rate > 0 && rate != infinite && burst == 0:
		return fmt.Errorf("burst 0 with rate %v would deny everything", rate)
	}
	return nil
}
