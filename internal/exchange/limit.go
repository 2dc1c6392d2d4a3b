package exchange

import (
	"encoding/binary"
	"math"
)

// Limit is a token bucket's, as it is sent: with each state goes the limit that it was
// written by, so that processes of another limit see the same tokens, not the same
// time. In the zero Limit nothing is known of it.
type Limit struct {
	Full  int64 // time that a full bucket takes to fill, microseconds, at least 1
	Burst int64 // tokens, at least 1
}

// LimitBytes is the size of a limit as it is stored and sent.
const LimitBytes = 8

// rounded is the limit as it is stored and sent, to a precision of 6e-8, or the zero
// Limit.
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

// readLimit reads what appendTo has written; the zero Limit from anything else.
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

// smaller orders limits.
func (l Limit) smaller(than Limit) bool {
	return l.Full < than.Full || l.Full == than.Full && l.Burst < than.Burst
}

// differs reports whether time by one limit can be told by the other, and has to be.
func (l Limit) differs(to Limit) bool { return l != to && l.Full > 0 && to.Full > 0 }

// ToGo is the TAT − now, in microseconds, by which another limit leaves what a bucket
// has: its tokens, at most the new burst, and what it owes.
func (l Limit) ToGo(toGo int64, to Limit) int64 { return l.toGoSince(toGo, 0, to) }

// toGoSince is ToGo for a charge that began some time ago: a bucket that was full then is
// refilled by the other limit from there on.
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

// Time is the time in which a bucket of another limit is refilled as much as one of
// this limit in so many microseconds.
func (l Limit) Time(time int64, to Limit) int64 {
	if !l.differs(to) {
		return time
	}
	refill := float64(float64(time) * (float64(l.Burst) / float64(l.Full)) * (float64(to.Full) / float64(to.Burst)))
	return int64(min(MaxTime, math.Floor(refill+0.5)))
}
