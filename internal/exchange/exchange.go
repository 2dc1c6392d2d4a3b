// Package exchange is the protocol between the processes of a fleet and their
// shared state: reports of charges out, the state of the reported keys back.
// Charges travel as time, in microseconds; a [Limit] converts it to tokens.
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

// Op is the operation of a record on its key.
type Op uint8

// The operations of a record.
const (
	Charge Op = iota // TAT ← max(TAT, floor, now − age) + delta, at most now + ceiling if there is one
	Refund           // TAT ← max(TAT − delta, min(TAT, now))
	Reset            // TAT ← now
	Late             // a Charge that first takes refill left unused by the fleet, at most its age
)

// Charges reports whether the operation charges time.
func (o Op) Charges() bool { return o == Charge || o == Late }

// Record is the report of one key. Durations are in microseconds.
type Record struct {
	Field    string // type byte ('k' or 'd') and the key or its digest; valid until the call that carries it has ended
	Op       Op
	Delta    int64 // time charged or given back, at least 0
	Attempts int64 // thousandths of a token requested since the last report; negative if waiters have left
	Age      int64 // time from the beginning of the charge to its arrival, at least 0
	Left     uint8 // part of the charge, in 1/256, that the key keeps as unused, as room for silent processes
	Ceiling  int64 // largest TAT − now after the charge, unless it was larger before; 0: none. Of Late: the part of Delta that takes nothing unused
	Limit    Limit // unit of all times of this record and its reply; the zero Limit: that of the key's last writer
	Floor    int64 // least TAT − now of the key before this charge, maybe negative; 0: none. It travels if Chunk.Floors is set
}

// ID is the name of one lane of one process: 64 random bits and a lane number.
// The shared state applies each sequence number of an ID once.
type ID [9]byte

// Chunk is one call on one partition: a report, and the reply to it.
type Chunk struct {
	Partition int
	ID        ID
	Seq       int64         // sequence number: from 1, one more with each new chunk of this ID and partition
	Tau       time.Duration // time constant of demand
	Floors    bool          // true if records carry floors, and are applied even after a loss of state
	Leave     bool          // true if the ID's sequence number is forgotten after this chunk; sent twice, it is Lost
	Records   []Record      // at most MaxRecords; an empty chunk keeps the sequence number alive

	Reply Reply // valid if Err is nil
	Err   error

	encoded []byte // the request
}

// Renewed returns an empty chunk in the memory of c, whose call has ended.
func (c *Chunk) Renewed() Chunk {
	return Chunk{Records: c.Records[:0], Reply: Reply{Keys: c.Reply.Keys[:0]}, encoded: c.encoded[:0]}
}

// Status is the result of a chunk.
type Status uint8

// The results of a chunk.
const (
	Applied   Status = iota
	Duplicate        // this sequence number had been applied before: nothing is applied, the state is current
	Lost             // the last known sequence number is below Seq−1: state was lost, nothing is applied
)

// Reply is the reply to a chunk.
type Reply struct {
	Status  Status
	Now     int64         // clock of the partition, microseconds; while its data lives, never behind an applied chunk
	Prev    int64         // the sequence number known before this chunk; 0: none
	Expires int64         // instant of Now's clock at which the partition expires if nothing is reported; over a minute after its last bucket is full
	Wait    time.Duration // time after which any process should call again, so that expired states are swept; 0: not known
	Keys    []KeyState    // one per record, in order, after the whole chunk; valid for every Status
}

// KeyState is the shared state of one key at Reply.Now.
type KeyState struct {
	ToGo   int64 // TAT − now, microseconds by the limit of the record; negative: full since then; LongAgo: for 50 days, or never charged
	Demand int64 // decayed count of all attempts, thousandths of a token; divided by τ it is a rate
}

// FleetCall is one call on the fleet's own hash: presence out, membership in.
type FleetCall struct {
	Process  [8]byte
	Silent   time.Duration // time after which an unseen member is silent
	Forget   time.Duration // time after which an unseen member is gone: lost, if it never left
	Remember time.Duration // time for which a lost member is counted, at least Forget
	Interval time.Duration // configured interval of this process's rounds
	Age      time.Duration // time since this process started
	Limit    Limit         // limit of most of this process's keys; the zero Limit: none
	Leave    bool          // true if this process leaves
	Degraded bool          // true if most calls of this process fail: it counts as last seen before, up to Forget/2 ago
	Announce []News        // at most MaxAnnounced
	Received int64         // number of the last news received by this process; 0: none

	Reply FleetReply // valid if Err is nil
	Err   error
}

// FleetReply is the reply to a fleet call.
type FleetReply struct {
	Now      int64         // clock of the fleet's hash, microseconds
	Members  int           // processes seen within Forget and not left, this one included unless it leaves
	Silent   int           // other members not seen within Silent, found at most Silent/8 late
	Newer    int           // members that are not silent, and started after the first silent one, at most Forget before it was last seen
	Lost     int           // processes unseen for longer than Forget that never left, less their replacements by the rule of Newer
	Fastest  time.Duration // shortest interval of a member
	Slowest  time.Duration // longest interval of a member
	Other    Limit         // a limit of other members that differs from this process's; the zero Limit: none
	Latest   int64         // number of the latest news
	Received int64         // number of the last news received with this reply; more is left if it is below Latest
	News     []News        // news after FleetCall.Received, the oldest first, at most MaxReceived, with that of this call

	after int64 // number of the news before the first of News
}

// Exchanger makes one batch of calls: the fleet call, unless it is nil, and the
// chunks. Each succeeds or fails by itself; its Reply and Err are filled in.
type Exchanger interface {
	Exchange(ctx context.Context, fleet *FleetCall, chunks []*Chunk)
}

// Store is an Exchanger with a number of partitions. A simulated one can take the
// place of a Redis client in a configuration. Because its methods take this
// package's types, no program outside of this module can make one.
type Store interface {
	Exchanger
	Partitions() int
}

// Simulated is a Store with which the runs of a simulation are repeatable.
type Simulated interface {
	Store
	Seed() uint64          // seed of the random choices of the process that uses this store
	Without() outage.Rules // rules that the process does not apply: an ablation
}

// Hash returns the 64-bit FNV-1a hash of a field, which selects its partition.
func Hash[T string | []byte](field T) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(field) {
		h = (h ^ uint64(field[i])) * 1099511628211
	}
	return h
}

// Partition returns the partition of a field, out of n.
func Partition(field string, n int) int { return int(Hash(field) % uint64(n)) }

// FieldOf returns the field of a key: 'k' and the key or, above 64 bytes, 'd' and
// 16 bytes of its SHA-256.
func FieldOf(key string) string {
	if len(key) <= 64 {
		return "k" + key
	}
	sum := sha256.Sum256([]byte(key))
	return "d" + string(sum[:16])
}
