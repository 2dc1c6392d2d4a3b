package exchange

import (
	"fmt"
)

// MaxTold and MaxHeard bound the news of one call: about 30 and 70 µs of Redis
// time. newsKept is how many the fleet's hash keeps.
const (
	MaxTold  = 16
	MaxHeard = 64
	newsKept = 256
)

// News is what one process tells the fleet of a key that runs low, so that
// nobody who meets it for the first time takes its bucket for full.
type News struct {
	Field  string // as in Record, at most 255 bytes
	Reset  bool   // the key was reset: what was known of it no longer holds
	ToGo   int64  // TAT − now, microseconds, at least 0
	Demand int64  // as in KeyState
}

const maxNewsField = 255

func (n *News) check() error {
	r := Record{Field: n.Field}
	if len(n.Field) > maxNewsField {
		return fmt.Errorf("news of a field of %d bytes: at most %d", len(n.Field), maxNewsField)
	}
	return r.check()
}

func (f *FleetCall) check() error {
	if len(f.Tell) > MaxTold {
		return fmt.Errorf("%d news in a call: at most %d", len(f.Tell), MaxTold)
	}
	for i := range f.Tell {
		if err := f.Tell[i].check(); err != nil {
			return fmt.Errorf("news %d: %w", i, err)
		}
	}
	return nil
}

const flagNewsReset = 1

func (n *News) appendTo(b []byte) []byte {
	b = append(b, byte(len(n.Field)))
	b = append(b, n.Field...)
	b = append(b, n.flags())
	return appendInts(b, span(n.ToGo), min(max(n.Demand, 0), maxTime))
}

func (n *News) flags() byte {
	if n.Reset {
		return flagNewsReset
	}
	return 0
}

// parseNews reads news to the end of a reply.
func parseNews(s string, into []News) ([]News, error) {
	for s != "" {
		size := int(s[0])
		if len(s) < size+18 || len(into) == MaxHeard {
			return nil, fmt.Errorf("%w: news out of bounds", errReply)
		}
		n := News{Field: s[1 : 1+size], Reset: s[1+size] == flagNewsReset}
		in := ints{s: s[2+size:]}
		n.ToGo, n.Demand = in.within(0, maxTime), in.within(0, maxTime)
		if in.wild || n.check() != nil {
			return nil, fmt.Errorf("%w: news out of bounds", errReply)
		}
		into, s = append(into, n), in.s
	}
	return into, nil
}
