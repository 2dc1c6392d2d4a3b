// Package exchange carries what processes report of their buckets to the
// shared state and brings back what that state says of them. What travels is time,
// in microseconds; a [Limit] says how much of it a token takes.
//
// The shared state is one hash per partition (key states, sequence numbers,
// sweep cursor) and one hash for the fleet. [Memory] keeps it in this process;
// internal/redisstore keeps it in Redis, by the same rules.
package exchange

import (
	"context"
	"crypto/sha256"
	"time"

	"github.com/seed-e56e777b/limiter/internal/outage"
)

// MaxRecords is the largest number of records in a chunk: about 0.4 ms of
// Redis time (docs/design.md).
const MaxRecords = 128

// Op says what a record does to its key.
type Op uint8

// The operations of a record.
const (
	Charge Op = iota // TAT ← max(TAT, floor, now − age) + delta, at most now + ceiling where there is one
	Refund           // TAT ← max(TAT − delta, min(TAT, now))
	Reset            // TAT ← now
	Late             // Charge that first takes refill which the fleet has left unused, at most its age
)

// Charges reports whether the operation charges time.
func (o Op) Charges() bool { return o == Charge || o == Late }

// Record is the report of one key. Durations are in microseconds.
type Record struct {
	Field    string // type byte ('k' or 'd') and the key or its digest; good until the call that carries it has ended: clone it to keep it
	Op       Op
	Delta    int64 // time charged or given back, at least 0
	Attempts int64 // thousandths of a token requested since the last report; negative where waiters have left
	Age      int64 // how long before its arrival the charge begins, at least 0
	Left     uint8 // part of the charge, in 1/256, that leaves room for silent processes: the key keeps it as unused
	Ceiling  int64 // the charge leaves TAT at most this far ahead of now (never below where it was); 0 means no ceiling. Of Late: the part of delta that takes nothing unused
	Limit    Limit // by which all of this, and the reply, is time; the zero Limit: by the one that the key was last written by
	Floor    int64 // TAT − now of the least TAT that the key has had before this charge, negative where that has passed; travels only where Chunk.Floors is set; 0 means none
}

// ID names one lane of one process: 64 random bits and a lane number. Redis
// applies a sequence number of an ID once.
type ID [9]byte

// Chunk is one call on one partition: a report, and the reply to it.
type Chunk struct {
	Partition int
	ID        ID
	Seq       int64         // from 1, one more with each new chunk of this ID and partition
	Tau       time.Duration // time constant of demand
	Floors    bool          // records carry floors; applied even where Redis has lost state
	Leave     bool          // forget this ID's sequence number after applying; sent again after a lost reply it is therefore Lost
	Records   []Record      // at most MaxRecords; none is fine: it keeps the sequence number alive

	Reply Reply // valid where Err is nil
	Err   error

	encoded []byte // the request
}

// Renewed is an empty chunk with the memory of one whose call has ended.
func (c *Chunk) Renewed() Chunk {
	return Chunk{Records: c.Records[:0], Reply: Reply{Keys: c.Reply.Keys[:0]}, encoded: c.encoded[:0]}
}

// Status says what became of a chunk.
type Status uint8

// What became of a chunk.
const (
	Applied   Status = iota
	Duplicate        // this sequence number had been applied before; nothing applied now, the state is current
	Lost             // Redis knows an older sequence number than Seq−1: it has lost state; nothing applied
)

// Reply is what the shared state says after a chunk.
type Reply struct {
	Status  Status
	Now     int64         // clock of the partition, microseconds; it never goes back behind an applied chunk while the data lives
	Prev    int64         // the sequence number known before this chunk; 0: none
	Expires int64         // when all that the partition holds expires, on its clock, if nothing is reported until then: more than a minute after the last bucket is full
	Wait    time.Duration // after which somebody should call again, whatever there is to report, for what is over to be swept; 0: not known
	Keys    []KeyState    // one a record, in order, after the whole chunk; meaningful for every Status
}

// KeyState is the shared state of one key at Reply.Now.
type KeyState struct {
	ToGo   int64 // TAT − now, microseconds by the limit of the record; negative: full since then; LongAgo: for long, or never charged
	Demand int64 // thousandths of a token: the decayed count of all attempts; divided by τ it is a rate
}

// FleetCall is one call on the fleet's own hash: presence out, membership in.
type FleetCall struct {
	Process  [8]byte
	Silent   time.Duration // a member not seen for longer is silent
	Forget   time.Duration // a member not seen for longer is gone: lost, if it never left
	Remember time.Duration // at least Forget; a lost member is counted for as long
	Interval time.Duration // of this process's rounds, as configured
	Age      time.Duration // since this process started
	Limit    Limit         // that most of this process's keys have; the zero Limit: none
	Leave    bool          // this process leaves
	Announce []News        // at most MaxTold
	Received int64         // number of the last news that this process has heard; 0: none

	Reply FleetReply // valid where Err is nil
	Err   error
}

// FleetReply is what the shared state says of the fleet.
type FleetReply struct {
	Now      int64         // the fleet hash's clock, microseconds
	Members  int           // processes seen within Forget and not left, this one included unless it leaves
	Silent   int           // those of them not seen within Silent; up to an eighth of it late
	Newer    int           // members that are not silent, and started later than the first of the silent, at most Forget before it was last seen
	Lost     int           // processes unseen for longer than Forget that never left, less those that have replaced them likewise
	Fastest  time.Duration // the shortest and the longest interval of the members
	Slowest  time.Duration
	Other    Limit  // of some member whose limit is another than this process's; the zero Limit: none is
	Latest   int64  // number of the latest news
	Received int64  // number of the last news that this process has heard with this reply; below Latest there is more to ask for
	News     []News // what was told after FleetCall.Heard, the oldest first, at most MaxHeard, what this call told included

	after int64 // number of the news before the first of News
}

// Exchanger does one batch: the fleet call, where there is one, and the chunks,
// each of which succeeds or fails by itself. It fills in their Reply and Err.
type Exchanger interface {
	Exchange(ctx context.Context, fleet *FleetCall, chunks []*Chunk)
}

// Store is an Exchanger that says how many partitions it keeps. A configuration
// passes a simulated one in place of a Redis client; since its methods take this
// package's types, no program outside of this module can make one.
type Store interface {
	Exchanger
	Partitions() int
}

// Simulated is a Store that makes the runs of a simulation repeatable.
type Simulated interface {
	Store
	Seed() uint64          // of the random choices of the process that is given this store
	Without() outage.Rules // that the process does without: an ablation
}

// Hash is the hash that places a field: FNV-1a, 64 bit.
func Hash[T string | []byte](field T) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(field) {
		h = (h ^ uint64(field[i])) * 1099511628211
	}
	return h
}

// Partition is the partition, out of n, that a field belongs to.
func Partition(field string, n int) int { return int(Hash(field) % uint64(n)) }

// FieldOf is the field of a key: itself or, above 64 bytes, its digest.
func FieldOf(key string) string {
	if len(key) <= 64 {
		return "k" + key
	}
	sum := sha256.Sum256([]byte(key))
	return "d" + string(sum[:16])
}
