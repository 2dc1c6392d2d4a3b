package replay

import "time"

// order turns the times of lines into instants that never go back. A line
// earlier than one before it gets the latest instant so far. Because a limiter
// sees requests in the order of the log, it would see that instant too.
type order struct {
	first, latest int64 // nanoseconds since 1970
	begun         bool  // true if there was a line

	back    int           // lines earlier than one before them
	farBack time.Duration // largest distance from such a line to the latest before it
}

// at returns the instant of a line whose time is in nanoseconds since 1970.
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
