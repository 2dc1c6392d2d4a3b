package exchange

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// The bounds of numbers. All stay below 2^53, sums included, because they travel
// through Lua, whose only number is a double.
const (
	MaxSpan = 1 << 51 // largest duration or amount sent, 71 years of microseconds
	MaxTime = 1 << 52 // largest clock reading, time to go or demand accepted
	MaxSeq  = 1 << 53 // largest sequence number
)

// MaxMembers is the largest size of a fleet that is accepted. Because a larger
// one would leave every process next to nothing, it is an error of the server.
const MaxMembers = 1 << 16

// LongAgo is the least KeyState.ToGo: full for 50 days or more, or never charged.
const LongAgo = -1 << 42

// KeepState is the time for which the state of a key is kept after its bucket is
// full: two rounds of the longest interval.
const KeepState = 2 * time.Minute

// The lifetimes of everything else.
const (
	keepSequence = 24 * time.Hour   // of a sequence number, after its last use
	expireAfter  = time.Minute      // of a hash after its last bucket is full, at least
	keepTaus     = 2                // of a hash likewise, in τ, so that demand decays
	expireLate   = 20 * time.Second // by which a hash may live longer, so that most calls need not renew its expiry
)

// lifetime returns the time by which a hash outlives its last bucket, in µs.
func lifetime(tau time.Duration) int64 {
	return max(expireAfter.Microseconds(), min(keepTaus*tauMicros(tau), MaxSpan))
}

// MaxUnused is the largest refill left unused by the fleet that a key keeps.
// Usage that is older empties the bucket at most (docs/design.md §6, Late usage).
const MaxUnused = 7 * time.Second

const maxUnused = int64(MaxUnused / time.Microsecond)

// newerBy is the least difference, in microseconds, between the starts of an older
// and a newer process. Processes of one fleet start together.
const newerBy = 2_000_000

// briefly is the least lifetime of a silent process, in microseconds. A process of
// a shorter one is gone at once, because it had next to no share.
const briefly = 5_000_000

// maxFieldLen is the length of the longest field, whose length takes two bytes.
const maxFieldLen = math.MaxUint16

var errNoField = errors.New("a field must begin with k or d")

// Check returns an error if the chunk must not be sent: a fault of the caller.
// The type bytes of fields keep keys apart from the scripts' own names.
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

// span bounds a number that is sent.
func span(n int64) int64 { return min(max(n, 0), MaxSpan) }

// attemptSpan bounds a count of attempts, which is negative if some are taken back.
func attemptSpan(n int64) int64 { return min(max(n, -MaxSpan), MaxSpan) }

// floorSpan bounds a floor, which may lie in the past.
func floorSpan(n int64) int64 { return min(max(n, LongAgo), MaxSpan) }

// micros returns a duration as it is sent.
func micros(d time.Duration) int64 { return span(d.Microseconds()) }

// fromMicros returns the duration of a number that was sent.
func fromMicros(n int64) time.Duration { return time.Duration(n) * time.Microsecond }

// tauMicros returns a time constant as it is sent. It is never 0, because demand is
// divided by it.
func tauMicros(d time.Duration) int64 { return max(micros(d), 1) }
