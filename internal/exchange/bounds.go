package exchange

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// Numbers travel through Lua, whose only number is a double: everything stays
// below 2^53, sums included.
const (
	MaxSpan = 1 << 51 // largest duration or amount sent, 71 years of microseconds
	MaxTime = 1 << 52 // largest clock reading, time to go and demand that are believed
	MaxSeq  = 1 << 53
)

// MaxMembers is the largest fleet that is believed: a larger number comes from
// a server that lies, or from rubbish in its data, and would leave every
// process next to nothing.
const MaxMembers = 1 << 16

// LongAgo is the least KeyState.ToGo: full for 50 days or more, or never charged.
const LongAgo = -1 << 42

// KeepState is how long the state of a key is kept after its bucket is full: two rounds
// of the longest interval.
const KeepState = 2 * time.Minute

// How long the rest is kept: a sequence number, while there is any state, after its last
// use.
const (
	keepSequence = 24 * time.Hour
	expireAfter  = time.Minute // the whole, after the last bucket is full, or keepTaus·τ, in which demand decays
	keepTaus     = 2
	expireLate   = 20 * time.Second // by which it may live longer, so that most calls need not say so
)

// lifetime is how long a hash outlives the last bucket that fills, in µs.
func lifetime(tau time.Duration) int64 {
	return max(expireAfter.Microseconds(), min(keepTaus*tauMicros(tau), MaxSpan))
}

// MaxUnused bounds the refill that a key keeps because the fleet has left it unused.
// Usage that is older empties the bucket at most (docs/design.md §6).
const MaxUnused = 7 * time.Second

const maxUnused = int64(MaxUnused / time.Microsecond)

// newerBy is by how much later a process has to start than another, to be newer, in
// microseconds: those of one fleet start together.
const newerBy = 2_000_000

// briefly is how long a process has to have lived, in microseconds, to be silent: one
// that has lived for less had no share to speak of, and is gone at once.
const briefly = 5_000_000

// maxFieldLen is what two bytes of length can say.
const maxFieldLen = math.MaxUint16

var errNoField = errors.New("a field must begin with k or d")

// check finds what must not reach the wire: the faults of a caller, not of a
// server. Type bytes keep keys apart from the names that the scripts use themselves.
func (c *Chunk) Check(partitions int) error {
	switch {
	case c.Partition < 0 || c.Partition >= partitions:
		return fmt.Errorf("partition %d of %d", c.Partition, partitions)
	case len(c.Records) > MaxRecords:
		return fmt.Errorf("%d records in a chunk: at most %d", len(c.Records), MaxRecords)
	}
	for i := range c.Records {
		if err := c.Records[i].check(); err != nil {
			return fmt.Errorf("record %d: %w", i, err)
		}
	}
	return nil
}

func (r *Record) check() error {
	switch {
	case r.Field == "" || r.Field[0] != 'k' && r.Field[0] != 'd':
		return errNoField
	case len(r.Field) > maxFieldLen:
		return fmt.Errorf("a field of %d bytes: at most %d", len(r.Field), maxFieldLen)
	case r.Op > Late:
		return fmt.Errorf("unknown operation %d", r.Op)
	}
	return nil
}

// span bounds what is sent.
func span(n int64) int64 { return min(max(n, 0), MaxSpan) }

// attemptSpan bounds a count of attempts, which may be taken back.
func attemptSpan(n int64) int64 { return min(max(n, -MaxSpan), MaxSpan) }

// floorSpan bounds a floor, which may lie in the past.
func floorSpan(n int64) int64 { return min(max(n, LongAgo), MaxSpan) }

// micros is a duration as it is sent.
func micros(d time.Duration) int64 { return span(d.Microseconds()) }

// fromMicros is the duration of a number that was sent.
func fromMicros(n int64) time.Duration { return time.Duration(n) * time.Microsecond }

// tauMicros is never 0: demand is divided by it.
func tauMicros(d time.Duration) int64 { return max(micros(d), 1) }
