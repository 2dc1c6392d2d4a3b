package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/internal/exchange"
	"github.com/seed-e56e777b/limiter/internal/membership"
	"github.com/seed-e56e777b/limiter/internal/redisstore"
)

// describe writes the key and the fleet as a text.
func (o *inspectOptions) describe(s redisstore.Inspection) string {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-14s %s\n", name, fmt.Sprintf(format, args...))
	}
	fmt.Fprintf(&b, "%q under the prefix %q%s\n\n", o.key, o.prefix, o.by(s.Key))
	if s.Key == nil {
		line("level", "full")
		line("", "Redis knows nothing of this key: it was never reported, or has been full for some minutes.")
	} else {
		o.describeKey(*s.Key, line)
	}
	line("where", "field %q of %s", exchange.FieldOf(o.key), s.Hash)
	b.WriteString("\n")
	o.describeFleet(s.Fleet, line)
	return b.String()
}

// by names the limit of the text.
func (o *inspectOptions) by(k *redisstore.KeyInspection) string {
	switch {
	case o.limit != limiter.Limit{}:
		return fmt.Sprintf(", at %v", o.limit)
	case k != nil:
		return fmt.Sprintf(", at %v, the limit of the last report", limitOf(k.Limit))
	}
	return ""
}

// limitOf returns a limit as configured. It was sent to a precision of 6e-8.
func limitOf(l exchange.Limit) limiter.Limit {
	return limiter.Per(int(l.Burst), time.Duration(l.Full)*time.Microsecond)
}

func (o *inspectOptions) describeKey(k redisstore.KeyInspection, line func(name, format string, args ...any)) {
	lim := limitOf(k.Limit)
	if (o.limit != limiter.Limit{}) {
		lim = o.limit
		own := exchange.LimitOf(float64(lim.Rate), float64(lim.Burst))
		k.ToGo = time.Duration(k.Limit.ToGo(k.ToGo.Microseconds(), own)) * time.Microsecond
	}
	r, burst := float64(lim.Rate), float64(lim.Burst)
	level := min(burst, burst-k.ToGo.Seconds()*r)
	line("level", "%.1f of %d tokens", level, lim.Burst)
	if level < 0 {
		line("debt", "%.1f tokens", -level)
	}
	if level < 1 {
		line("next token", "in %v, by one bucket for the whole fleet", seconds((1-level)/r))
	}
	if k.ToGo > 0 {
		line("full", "in %v", short(k.ToGo))
	} else {
		line("full", "now")
	}
	line("demand", "%.3g tokens per second requested from the whole fleet, %.2f × the limit", k.Demand, k.Demand/r)
	line("last report", "%v ago", short(k.Written))
}

// describeFleet lists the members.
func (o *inspectOptions) describeFleet(fleet []redisstore.MemberInspection, line func(name, format string, args ...any)) {
	if len(fleet) == 0 {
		line("fleet", "no process: all have left")
		return
	}
	silent, after := 0, membership.SilentAfter(o.interval, 0)
	for _, m := range fleet {
		if m.Seen > after {
			silent++
		}
	}
	line("fleet", "processes: %d, silent: %d", len(fleet), silent)
	for _, m := range fleet {
		word := ""
		if m.Seen > after {
			word = ": silent"
		}
		line("", "%x  seen %v ago%s", m.Process, short(m.Seen), word)
	}
}

func seconds(s float64) time.Duration { return short(time.Duration(s * float64(time.Second))) }

// short rounds to milliseconds, from a second on to tenths of a second.
func short(d time.Duration) time.Duration {
	if d < time.Second {
		return d.Round(time.Millisecond)
	}
	return d.Round(100 * time.Millisecond)
}
