package exchange

import (
	"encoding/binary"
	"math"
	"time"
)

// Limit is the limit of a token bucket, as it is sent. It travels with each state,
// so that processes of another limit see the same tokens, not the same time. The
// zero Limit is an unknown one.
type Limit struct {
	Full  int64 // time in which an empty bucket fills, microseconds, at least 1
	Burst int64 // tokens, at least 1
}

// LimitOf returns the limit of a bucket with a rate above 0, in tokens per second, and a
// burst, in tokens.
func LimitOf(rate, burst float64) Limit {
	full := min(burst/rate, MaxSpan/1e6)
	return Limit{Full: max(1, time.Duration(full*1e9).Microseconds()), Burst: int64(burst)}
}

// LimitBytes is the size of a limit as it is stored and sent.
const LimitBytes = 8

// rounded returns the limit as it is stored and sent, to a precision of 6e-8. It
// returns the zero Limit for one without time or tokens.
func (l Limit) rounded() Limit {
	l = Limit{int64(float32(span(l.Full))), int64(float32(span(l.Burst)))}
	if l.Full == 0 || l.Burst == 0 {
		return Limit{}
	}
	return l
}

func (l Limit) appendTo(b []byte) []byte {
	l = l.rounded()
	b = binary.LittleEndian.AppendUint32(b, math.Float32bits(float32(l.Full)))
	return binary.LittleEndian.AppendUint32(b, math.Float32bits(float32(l.Burst)))
}

// ReadLimit returns the limit in the first LimitBytes of s, or the zero Limit if
// they are none.
func ReadLimit(s string) Limit {
	number := func(s string) int64 {
		bits := uint32(s[0]) | uint32(s[1])<<8 | uint32(s[2])<<16 | uint32(s[3])<<24
		if n := math.Float32frombits(bits); n >= 1 && n <= MaxSpan {
			return int64(n)
		}
		return 0
	}
	return Limit{number(s), number(s[4:])}.rounded()
}

// smaller reports whether l is before than in an order of all limits.
func (l Limit) smaller(than Limit) bool {
	return l.Full < than.Full || l.Full == than.Full && l.Burst < than.Burst
}

// differs reports whether both limits are known and time has to be converted.
func (l Limit) differs(to Limit) bool { return l != to && l.Full > 0 && to.Full > 0 }

// ToGo converts a TAT − now of l, in microseconds, to another limit. The bucket
// keeps its tokens, at most the new burst, and its debt.
func (l Limit) ToGo(toGo int64, to Limit) int64 { return l.toGoSince(toGo, 0, to) }

// toGoSince is [Limit.ToGo] for a charge that began age ago: a bucket that was full
// then is refilled by the other limit from there on.
func (l Limit) toGoSince(toGo, age int64, to Limit) int64 {
	if !l.differs(to) {
		return toGo
	}
	missing := float64(to.Burst - l.Burst)
	if toGo > 0 {
		missing += float64(toGo) * float64(l.Burst) / float64(l.Full)
	}
	if missing <= 0 {
		return min(toGo, 0)
	}
	return min(0, max(toGo, -age)) + int64(min(MaxTime, math.Floor(missing*float64(to.Full)/float64(to.Burst)+0.5)))
}

// Time converts time of l, in microseconds, to the time in which another limit
// refills as many tokens.
func (l Limit) Time(time int64, to Limit) int64 {
	if !l.differs(to) {
		return time
	}
	refill := float64(float64(time) * (float64(l.Burst) / float64(l.Full)) * (float64(to.Full) / float64(to.Burst)))
	return int64(min(MaxTime, math.Floor(refill+0.5)))
}
