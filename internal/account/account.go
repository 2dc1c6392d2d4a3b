// Package account is the state that a process keeps of one key of its fleet. It has the
// rules by which reports, replies, news and outages change that state. It is pure, except
// for the [Pool] that accounts come from.
//
// An [Account] has four parts. The [Lease] is the grant of the last reply: until when
// it holds, and the TAT (theoretical arrival time) of the shared bucket, the instant
// at which that is full. The [Ledger] has the usage, tokens admitted less those given
// back, until a reply confirms it. The [Demands] have the attempts, tokens requested: the
// demand d of this process, D_o of the others, and their means d̄ and D̄_o. The
// [Schedule] has the instant at which the key is due to be exchanged.
//
// A report ([Account.Report]) carries the usage as time, n/r, with its age, and the
// attempts. Its reply ([Account.ApplyReply]) has the shared TAT and the decayed count of
// the fleet's attempts, and leads to a grant in one of two modes. If the fleet's demand
// fits, the process may use all that the shared bucket holds (pool mode). If the key is
// contended, it may use its share w of level and rate, by demand (share mode). In an
// outage no reply comes: [Account.ApplyOutage] gives the share that the means of demand
// give, until a reply does (stale mode).
//
// News of a key, announced by another process, may lower a grant before the next
// reply. A key far from its limit has a [Short] form in place of an account. Decisions and
// the exchange of reports call this package under the key's lock. They pass [Params], the
// process's knowledge of its fleet. Formulas use the notation of docs/design.md: r and b
// are the key's limit, N the processes, T the time between reports, H = T + RTT.
package account

import (
	"github.com/seed-e56e777b/limiter/internal/bucket"
	"github.com/seed-e56e777b/limiter/internal/mono"
	"github.com/seed-e56e777b/limiter/internal/outage"
)

// Account is the state of one key between its process and the fleet. Instants are those
// of package mono and never 0, so that 0 is none. Demands are in tokens per second.
type Account struct {
	// The first cache line has all that most decisions read. The order of fields leaves
	// no gap: see TestAccountFitsItsSizeClass.

	bucket.Grant
	FastUntil mono.Time // instant until which the slot's buffer alone may record a decision
	LastEvent mono.Time // bucket.Bucket.LastEvent; counts where it is later than Bucket.At
	Reserved  mono.Time // instant at which the latest reservation may act
	identity
	Partition uint16 // number of the key's partition, from 1; 0: its limit is not shared
	Frozen    bool   // true if the key is in a report without a reply
	Marks     marks

	Lease
	Ledger
	Demands
	Schedule
}

// identity distinguishes the accounts of a pool.
type identity struct {
	Number     uint32 // number in the pool, from 1
	Generation uint32 // number of keys that have had the account before
	Orphan     uint32 // number of the orphan (an evicted key with usage to report) that has the account, from 1; 0: its key is in memory
}

// Lease is the grant of the last reply: its end, and the state of the shared bucket.
type Lease struct {
	Until      mono.Time // instant at which the grant has to be renewed or extended
	Expires    mono.Time // instant at which the grant ends
	StaleSince mono.Time // begin of the outage that the grant is for; 0: none
	RepliedAt  mono.Time // instant of the last reply; 0: none yet
	TAT        mono.Time // last known TAT of the shared bucket, by reply or news
	// RepliedTAT is the TAT of the last reply. Before the first reply it is the TAT
	// remembered from the key's eviction, which is never announced.
	RepliedTAT   mono.Time
	AnnouncedTAT mono.Time      // TAT in the last news of the key, announced or received; 0: none
	RelearnUntil mono.Time      // instant until which the bucket stays in share mode, with at most frozenShare
	HeldUntil    mono.Time      // instant before which nothing is admitted; 0: none
	Share        float64        // w, this process's part of the rate
	frozenShare  float32        // largest share until RelearnUntil
	Silence      outage.Silence // demand since processes fell silent
}

// Ledger is the usage of this process that no reply has confirmed. Usage is in tokens
// admitted less those given back.
type Ledger struct {
	Usage         int64     // usage, tokens, not yet reported
	InFlight      int64     // usage, tokens, in a report without a reply
	FirstUse      mono.Time // instant of the first unreported admission; 0: none
	firstInFlight mono.Time // instant of the first admission in flight; 0: none
	Carry         float64   // unreported rest of a rounding, or of a change of limit, microseconds of the bucket's time
	TakenBefore   int64     // usage, tokens, of all time, except Usage
	OwnTAT        mono.Time // TAT of a bucket of rate r that only this process uses: the end of its own chain of emission intervals
	fairTAT       mono.Time // the same at the rate r/N: see WithinFair
}

// Demands are the demand of this process, and that of the others by the last reply.
type Demands struct {
	Attempts           int64     // attempts, tokens, not yet reported
	attemptsSinceReply int64     // attempts, tokens, reported since the last reply
	CountedAt          mono.Time // instant of the last decision that is counted
	Demand             float64   // d at demandAt
	demandAt           mono.Time
	demandAtReport     float32   // d at the last report
	ownAtReply         float32   // d in the report that the last reply answered
	meanOwn            float32   // d̄, mean of d
	meanOwnAtReply     float32   // d̄ in the report that the last reply answered
	Others             float64   // D_o, demand of the others at the last reply, or by later news
	Cost               float32   // c, smoothed cost of a request, tokens: a share has to be able to save it up
	MeanOthers         float32   // D̄_o, mean of D_o
	Queued             float32   // demand of waiting callers, beside Demand
	mirror             float32   // this process's part of the shared count, tokens, at mirrorAt
	mirrorAt           int64     // microseconds of the partition's clock; 0: none
	ResidentSince      mono.Time // instant at which the key came into memory
}

// Schedule is when the key is exchanged.
type Schedule struct {
	Due        mono.Time // instant at which the key is to be exchanged; mono.Never: not at all
	Alarm      int64     // AlarmCount at which the key is to be exchanged at once
	ReportedAt mono.Time // instant of the last report; before the first one, that at which the key came
	RNG        uint64    // state of the generator of thresholds
}

// marks are flags of an account.
type marks uint8

// The marks.
const (
	FloorDue      marks = 1 << iota // true if Redis has lost state, and the last TAT has to be reported
	gaveBack                        // true if tokens were given back: the charge then shows too little of the attempts
	ReportedQueue                   // true if the last report had demand of waiting callers
	LimitDue                        // true if the limit has changed, and Redis still refills by the old one

	inShort = FloorDue | LimitDue // marks that a Short form can have
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
func New(now mono.Time) Account {
	return Account{
		Grant:    bucket.Grant{Threshold: 1},
		Demands:  Demands{ResidentSince: now, demandAt: now},
		Schedule: Schedule{Due: mono.Never, Alarm: bucket.MaxTokens, ReportedAt: now},
	}
}

// Begin gives the account to another key, which comes into memory now.
func (a *Account) Begin(now mono.Time) {
	kept := a.identity
	*a = New(now)
	a.identity = kept
}

// Reset drops the usage, the grant, the news and the means of a key that is reset. The
// demand d stays, and so does this process's part of the shared count.
func (a *Account) Reset(now mono.Time) {
	kept, fresh := *a, New(now)
	a.Lease = Lease{StaleSince: kept.StaleSince, Share: kept.Share}
	a.Ledger = Ledger{TakenBefore: kept.TakenBefore + kept.Usage}
	a.Demands = fresh.Demands
	a.Demand, a.demandAt, a.demandAtReport = kept.Demand, kept.demandAt, float32(kept.Demand)
	a.mirror, a.mirrorAt = kept.mirror, kept.mirrorAt
	a.Alarm, a.ReportedAt, a.Marks = fresh.Alarm, fresh.ReportedAt, 0
}

// ForgetGrant drops news, holds, marks and the memory of a silence, for a key that is
// idle. Usage, the other TATs and the means of demand stay.
func (a *Account) ForgetGrant() {
	a.AnnouncedTAT, a.RelearnUntil, a.StaleSince, a.Marks = 0, 0, 0, 0
	a.Silence = outage.Silence{}
}

// Exchanges reports whether the fleet shares the key.
func (a *Account) Exchanges() bool { return a != nil && a.Partition != 0 }
