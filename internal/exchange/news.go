package exchange

import "fmt"

// The largest numbers of pieces of news. Redis takes 0.4 ms to store MaxAnnounced
// pieces, and 0.15 ms to send MaxReceived (BenchmarkNews of internal/redisstore).
const (
	NewsKept     = 8192 // in the fleet's hash: the latest
	MaxAnnounced = 256  // in a call
	MaxReceived  = 512  // in the reply to a call

	newsPage  = 16 // pieces of news on a page of the hash
	pageHead  = 8
	newsBytes = 1 + 1 + 8 + 8 + LimitBytes // a piece of news without its field
	pageBytes = pageHead + newsPage*(maxNewsField+newsBytes)
)

// News is the announcement of a key whose bucket runs low, or that is held. A process
// that sees the key for the first time starts from it, and not from a full bucket.
type News struct {
	Field  string // as in Record, at most 255 bytes
	Reset  bool   // true if the key was reset: earlier news of it no longer holds
	Held   bool   // true if nothing of the key is admitted until ToGo has passed
	ToGo   int64  // TAT − now, microseconds by Limit, at least 0; of a hold its time
	Demand int64  // as in KeyState
	Limit  Limit
}

const maxNewsField = 255

func (n *News) check() error {
	r := Record{Field: n.Field}
	if len(n.Field) > maxNewsField {
		return fmt.Errorf("news of a field of %d bytes: at most %d", len(n.Field), maxNewsField)
	}
	return r.check()
}

// Check returns an error if the call must not be sent: a fault of the caller.
func (f *FleetCall) Check() error {
	if len(f.Announce) > MaxAnnounced {
		return fmt.Errorf("%d news in a call: at most %d", len(f.Announce), MaxAnnounced)
	}
	for i := range f.Announce {
		if err := f.Announce[i].check(); err != nil {
			return fmt.Errorf("news %d: %w", i, err)
		}
	}
	return nil
}

const (
	flagNewsReset = 1
	flagNewsHeld  = 2
)

func (n *News) appendTo(b []byte) []byte {
	b = append(b, byte(len(n.Field)))
	b = append(b, n.Field...)
	b = append(b, n.flags())
	return n.Limit.appendTo(appendInts(b, span(n.ToGo), min(max(n.Demand, 0), MaxTime)))
}

func (n *News) flags() byte {
	switch {
	case n.Reset:
		return flagNewsReset
	case n.Held:
		return flagNewsHeld
	}
	return 0
}

// pageOf returns the number of the page with the news of a number.
func pageOf(number int64) int64 { return (number+newsPage-1)/newsPage - 1 }

// parseNews reads the pages at the end of a reply. It keeps the news after r.after,
// up to r.Received, that still holds at r.Now.
func (r *FleetReply) parseNews(s string) error {
	for range MaxReceived / newsPage {
		if s == "" {
			return nil
		}
		if len(s) < 8 {
			break
		}
		in := ints{s: s}
		size := in.within(pageHead, pageBytes)
		if in.wild || int64(len(in.s)) < size {
			break
		}
		r.readPage(in.s[:size])
		s = in.s[size:]
	}
	if s == "" {
		return nil
	}
	return fmt.Errorf("%w: news out of bounds", ErrReply)
}

// readPage reads a page up to its first invalid piece, because another program may
// have written there.
func (r *FleetReply) readPage(page string) {
	in := ints{s: page}
	number := in.within(0, MaxSeq)
	for p := pageOf(number); in.s != "" && !in.wild && pageOf(number) == p; number++ {
		size := int(in.s[0])
		if len(in.s) < size+newsBytes {
			return
		}
		flag := in.s[1+size]
		n := News{Field: in.s[1 : 1+size], Reset: flag == flagNewsReset, Held: flag == flagNewsHeld}
		in.s = in.s[2+size:]
		tat, demand := in.within(-MaxTime, r.Now+MaxTime), in.within(0, MaxTime)
		lim := ReadLimit(in.s)
		in.s = in.s[LimitBytes:]
		if in.wild || n.check() != nil {
			return
		}
		n.ToGo, n.Demand, n.Limit = max(0, tat-r.Now), demand, lim
		if number > r.after && number <= r.Received && (n.ToGo > 0 || n.Reset) {
			r.News = append(r.News, n)
		}
	}
}
