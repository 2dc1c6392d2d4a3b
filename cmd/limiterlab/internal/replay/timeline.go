package replay

import "time"

// timeline counts requests over time in a bounded number of bins. Instead of
// more bins it has wider ones.
type timeline struct {
	rung  int   // index of the width in widths
	first int64 // number of the first bin, counted in widths since 1970 on the log's own clock
	bins  []bin
}

// bin counts the requests and the denials in a stretch of time.
type bin struct{ asked, denied int }

const maxBins = 240

// widths are the possible widths of a bin. Each is a multiple of the one
// before.
var widths = []time.Duration{
	time.Second, 2 * time.Second, 10 * time.Second, 30 * time.Second,
	time.Minute, 2 * time.Minute, 10 * time.Minute, 30 * time.Minute,
	time.Hour, 2 * time.Hour, 6 * time.Hour, 12 * time.Hour,
	day, 7 * day, 28 * day, 28 * 7 * day,
}

const day = 24 * time.Hour

func (t *timeline) width() int64 { return int64(widths[t.rung]) }

// add counts a request at a time in nanoseconds since 1970. Times must not go
// back.
func (t *timeline) add(at int64, allowed bool) {
	i := at / t.width()
	if len(t.bins) == 0 {
		t.first = i
	}
	for i-t.first >= maxBins && t.rung < len(widths)-1 {
		t.widen()
		i = at / t.width()
	}
	for int64(len(t.bins)) <= i-t.first {
		t.bins = append(t.bins, bin{})
	}
	b := &t.bins[i-t.first]
	b.asked++
	if !allowed {
		b.denied++
	}
}

// widen gives the bins the next larger width.
func (t *timeline) widen() {
	before := t.width()
	t.rung++
	first := t.first * before / t.width()
	var wider []bin
	for i, b := range t.bins {
		j := (t.first+int64(i))*before/t.width() - first
		for int64(len(wider)) <= j {
			wider = append(wider, bin{})
		}
		wider[j].asked += b.asked
		wider[j].denied += b.denied
	}
	t.first, t.bins = first, wider
}

// atMost returns the timeline in at most n bins, except where the largest width
// needs more.
func (t timeline) atMost(n int) timeline {
	for len(t.bins) > n && t.rung < len(widths)-1 {
		t.widen()
	}
	return t
}
