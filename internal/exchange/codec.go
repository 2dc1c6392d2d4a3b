package exchange

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// The wire: little endian, numbers of 8 bytes unless noted otherwise.
//
// Request of a chunk: version (1 byte), flags (1 byte), sequence number, τ µs,
// keep µs, lifetime µs; then per record: length of the field (2 bytes), field, op
// (1 byte), left (1 byte), delta, attempts, age, ceiling, limit (8 bytes), and,
// if flagFloors is set, floor.
// Reply: status (1 byte), now, sequence number known before, when the hash expires,
// wait µs; then per record TAT − now, demand.
//
// Request of the fleet call: version (1 byte), flags (1 byte), silent µs, forget µs,
// remember µs, interval µs, age µs, number of the last news received, limit
// (8 bytes); then per piece of news to announce: length of the field (1 byte),
// field, flags (1 byte: 1 for a reset, 2 for a hold), TAT − now, demand, limit (8 bytes).
// Reply: 0 (1 byte), now, members, silent, newer and lost members, longest and shortest
// interval µs, number of the latest news, of the one before the first that
// follows, of the last that follows, a limit of another member (8 bytes); then
// per page of news its length and the page, as it is stored (fleet.lua).
const (
	wireVersion = 2

	flagFloors = 1
	flagLeave  = 2

	flagFleetLeave    = 1
	flagFleetDegraded = 2

	chunkReplyHead = 33
	chunkReplyKey  = 16
	fleetReplyHead = 81 + LimitBytes
)

// ErrReply is the error of a reply that the limiter's scripts do not send.
var ErrReply = errors.New("the server's reply is not of the limiter's script")

// Encode returns the request of a chunk that has passed Check. The result is valid
// until the next Encode.
func (c *Chunk) Encode() []byte {
	size := 34
	for i := range c.Records {
		size += 52 + len(c.Records[i].Field)
	}
	b := append(slices.Grow(c.encoded[:0], size), wireVersion, c.flags())
	b = appendInts(b, min(max(c.Seq, 0), MaxSeq), tauMicros(c.Tau), KeepState.Microseconds(), lifetime(c.Tau))
	for i := range c.Records {
		b = c.Records[i].appendTo(b, c.Floors)
	}
	c.encoded = b
	return b
}

func (c *Chunk) flags() (f byte) {
	if c.Floors {
		f |= flagFloors
	}
	if c.Leave {
		f |= flagLeave
	}
	return f
}

func (r *Record) appendTo(b []byte, floors bool) []byte {
	b = binary.LittleEndian.AppendUint16(b, uint16(len(r.Field)))
	b = append(b, r.Field...)
	b = append(b, byte(r.Op), r.Left)
	b = appendInts(b, span(r.Delta), attemptSpan(r.Attempts), span(r.Age), span(r.Ceiling))
	b = r.Limit.appendTo(b)
	if floors {
		b = appendInts(b, floorSpan(r.Floor))
	}
	return b
}

func appendInts(b []byte, ns ...int64) []byte {
	for _, n := range ns {
		b = binary.LittleEndian.AppendUint64(b, uint64(n))
	}
	return b
}

// Decode reads the reply to a chunk of n records. It fails unless all numbers are
// within bounds.
func (r *Reply) Decode(s string, n int) error {
	if len(s) != chunkReplyHead+chunkReplyKey*n || Status(s[0]) > Lost {
		return fmt.Errorf("%w: %d bytes for %d keys", ErrReply, len(s), n)
	}
	in := ints{s: s[1:]}
	status, now, prev := Status(s[0]), in.within(0, MaxTime), in.within(0, MaxSeq)
	expires, wait := in.within(0, 2*MaxTime), in.within(0, MaxSpan)
	keys := r.Keys[:0]
	for range n {
		keys = append(keys, KeyState{ToGo: in.within(LongAgo, MaxTime), Demand: in.within(0, MaxTime)})
	}
	if in.wild {
		return fmt.Errorf("%w: a number out of bounds", ErrReply)
	}
	*r = Reply{Status: status, Now: now, Prev: prev, Expires: expires, Wait: fromMicros(wait), Keys: keys}
	return nil
}

// Encode returns the request of a fleet call that has passed Check.
func (f *FleetCall) Encode() []byte {
	b := append(make([]byte, 0, 26), wireVersion, 0)
	if f.Leave {
		b[1] |= flagFleetLeave
	}
	if f.Degraded {
		b[1] |= flagFleetDegraded
	}
	b = appendInts(b, micros(f.Silent), micros(f.Forget), micros(f.Remember), micros(f.Interval), micros(f.Age), min(max(f.Received, 0), MaxSeq))
	b = f.Limit.appendTo(b)
	for i := range f.Announce {
		b = f.Announce[i].appendTo(b)
	}
	return b
}

// Decode reads the reply to a fleet call. It fails unless all numbers are within
// bounds.
func (r *FleetReply) Decode(s string) error {
	if len(s) < fleetReplyHead || s[0] != 0 {
		return fmt.Errorf("%w: %d bytes for the fleet", ErrReply, len(s))
	}
	in := ints{s: s[1:]}
	now, members := in.within(0, MaxTime), in.within(0, MaxMembers)
	silent, newer := in.within(0, members), in.within(0, members)
	lost := in.within(0, MaxMembers)
	slowest := in.within(0, MaxSpan)
	fastest, latest := in.within(0, slowest), in.within(0, MaxSeq)
	after := in.within(0, latest)
	received := in.within(after, latest)
	if in.wild {
		return fmt.Errorf("%w: a number out of bounds", ErrReply)
	}
	reply := FleetReply{
		Now: now, Members: int(members), Silent: int(silent), Newer: int(newer), Lost: int(lost),
		Fastest: fromMicros(fastest), Slowest: fromMicros(slowest),
		Latest: latest, Received: received, after: after, Other: ReadLimit(in.s),
	}
	if err := reply.parseNews(in.s[LimitBytes:]); err != nil {
		return err
	}
	*r = reply
	return nil
}

// ints reads the numbers of a string whose length has been checked.
type ints struct {
	s    string
	wild bool // true if one was out of bounds
}

func (in *ints) within(least, most int64) int64 {
	var u uint64
	for i := range 8 {
		u |= uint64(in.s[i]) << (8 * i)
	}
	in.s = in.s[8:]
	n := int64(u)
	in.wild = in.wild || n < least || n > most
	return n
}

// ReadInts returns the first n numbers of s. It fails if s is shorter, or if one
// of them is beyond ±[MaxTime].
func ReadInts(s string, n int) ([]int64, bool) {
	if len(s) < 8*n {
		return nil, false
	}
	in := ints{s: s}
	list := make([]int64, n)
	for i := range list {
		list[i] = in.within(-MaxTime, MaxTime)
	}
	return list, !in.wild
}
