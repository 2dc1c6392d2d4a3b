package replay

import "time"

// order turns the times of lines into instants that never go back: a line that
// is earlier than one before it counts as if it came at the same instant as
// that, as it would to a limiter that sees requests in the order of the log.
type order struct {
	first, latest int64
	begun         bool

	back    int           // lines that were earlier than one before them
	farBack time.Duration // the most that one was
}

// at returns the instant of a line.
func (o *order) at(nanos int64) float64 {
	switch {
	case !o.begun:
		o.begun = true
		o.first, o.latest = nanos, nanos
	case nanos >= o.latest:
		o.latest = nanos
	default:
		o.back++
		o.farBack = max(o.farBack, time.Duration(o.latest-nanos))
	}
	return float64(o.latest - o.first)
}
