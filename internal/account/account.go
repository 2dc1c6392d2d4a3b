package account

import (
	"github.com/seed-e56e777b/limiter/internal/bucket"
	"github.com/seed-e56e777b/limiter/internal/mono"
	"github.com/seed-e56e777b/limiter/internal/outage"
)

// Account is the state of one key between its process and the fleet. Instants are
// nanoseconds of the limiter's clock and never 0; rates are tokens per second.
type Account struct {
	// The first cache line has all that most decisions read.
	bucket.Grant
	FastUntil int64 // instant until which a decision may be noted in the buffer alone
	LastEvent int64 // bucket.Bucket.LastEvent, if that is later than Bucket.At
	Reserved  int64 // instant at which the latest reservation may act
	identity

	Lease
	Ledger
	Demands
	Schedule
}

// identity tells the accounts of a pool apart.
type identity struct {
	Number     uint32 // in the pool, from 1
	Generation uint32 // number of keys that have had the account before
	Orphan     uint32 // number of the orphan that has the account, from 1; 0: its key is in memory
}

// Lease is what the last reply allows, until when, and what is known of the fleet's
// bucket.
type Lease struct {
	Until      int64 // instant at which the grant has to be looked at again
	Expires    int64 // instant after which the grant says nothing any more
	StaleSince int64 // begin of the outage that the grant is for; 0: none
	RepliedAt  int64 // instant of the last reply; 0: none yet
	TAT        int64 // last known TAT of the fleet's bucket
	// RepliedTAT is the TAT of the last reply. Before the first reply it is the TAT that
	// is remembered of the key's eviction, which is no news for others.
	RepliedTAT   int64
	AnnouncedTAT int64   // TAT in the last news of the key, sent or received
	HoldUntil    int64   // instant until which the bucket stays in share mode, with at most FrozenShare
	Share        float64 // this process's part of the rate, p
	FrozenShare  float32 // bound of the share until HoldUntil
	Silence      outage.Silence
}

// Ledger is the usage of this process, reported and not.
type Ledger struct {
	Usage         int64   // tokens admitted less those given back, not yet reported
	InFlight      int64   // usage in a report without a reply
	FirstUse      int64   // instant of the first unreported admission; 0: none
	firstInFlight int64   // instant of the first admission in flight
	Carry         float64 // microseconds of the bucket's time, not yet reported: the rest of a rounding, or of a change of limit
	TakenBefore   int64   // all tokens ever admitted less those given back, except Usage
	OwnTAT        int64   // end of this process's own chain of emission intervals
	fairTAT       int64   // the same for a bucket of rate r/N, by which WithinFair goes
}

// Demands are the requests of this process, and of the others as far as Redis has told.
type Demands struct {
	Attempts           int64   // tokens requested, not yet reported
	attemptsSinceReply int64   // tokens requested since the last reply and reported
	CountedAt          int64   // instant of the last decision that is counted
	Demand             float64 // d at demandAt
	demandAt           int64
	DemandAtReport     float32 // d at the last report
	OwnAtReply         float32 // d at the last reply
	MeanOwn            float64 // d̄, mean of d
	MeanOwnAtReply     float32 // d̄ at the last reply
	Cost               float32 // smoothed cost of a request: a share has to be able to save up for it
	Others             float64 // D_o, demand of the others by the last reply
	MeanOthers         float32 // D̄_o, mean of D_o
	mirror             float32 // this process's part of Redis's count of attempts, at mirrorAt
	mirrorAt           int64   // microseconds of the partition's clock
	ResidentSince      int64   // instant at which the key came into memory
}

// Schedule says when the key is exchanged, and how it stands in its process.
type Schedule struct {
	Due        int64   // instant at which the key is to be exchanged; mono.Never: not at all
	Alarm      int64   // count of usage (pool mode) or attempts (share mode) that is to be reported at once
	ReportedAt int64   // instant at which attempts were last moved into a report
	Rng        uint64  // state of the generator of thresholds
	Queued     float32 // demand of waiting callers, beside Demand
	Partition  uint16  // number of the key's partition, from 1; 0: its limit is not shared
	Frozen     bool    // true if the key is in a report without a reply
	Marks      marks
}

// marks are facts about an account.
type marks uint8

const (
	FloorDue      marks = 1 << iota // true if Redis has lost state, and the last TAT has to be reported
	gaveBack                        // true if tokens were given back: a charge then says little of the attempts
	ReportedQueue                   // true if the last report had demand of waiting callers in it
	LimitDue                        // true if the limit has changed: until Redis knows, it refills by the old one

	inShort = FloorDue | LimitDue // the marks that a key far from its limit can have
)

// Is reports whether one of the marks is set.
func (a *Account) Is(m marks) bool { return a.Marks&m != 0 }

// Mark sets a mark, or clears it.
func (a *Account) Mark(m marks, is bool) {
	a.Marks &^= m
	if is {
		a.Marks |= m
	}
}

// New returns the account of a key that comes into memory now.
func New(now int64) Account {
	return Account{
		Grant:    bucket.Grant{Threshold: 1},
		Demands:  Demands{ResidentSince: now, demandAt: now},
		Schedule: Schedule{Due: mono.Never, Alarm: bucket.MaxTokens, ReportedAt: now},
	}
}

// Begin gives the account to another key.
func (a *Account) Begin(now int64) {
	kept := a.identity
	*a = New(now)
	a.identity = kept
}

// Reset drops the usage, the grant and the news of the key. Demand stays.
func (a *Account) Reset(now int64) {
	kept, fresh := *a, New(now)
	a.Lease = Lease{StaleSince: kept.StaleSince, Share: kept.Share}
	a.Ledger = Ledger{TakenBefore: kept.TakenBefore + kept.Usage}
	a.Demands = fresh.Demands
	a.Demand, a.demandAt, a.DemandAtReport = kept.Demand, kept.demandAt, float32(kept.Demand)
	a.mirror, a.mirrorAt = kept.mirror, kept.mirrorAt
	a.Alarm, a.ReportedAt, a.Marks, a.Queued = fresh.Alarm, fresh.ReportedAt, 0, 0
}

// ForgetGrant drops all except averages.
func (a *Account) ForgetGrant() {
	a.AnnouncedTAT, a.HoldUntil, a.StaleSince, a.Marks = 0, 0, 0, 0
	a.Silence = outage.Silence{}
}

// Exchanges reports whether the fleet is told of the key.
func (a *Account) Exchanges() bool { return a != nil && a.Partition != 0 }
