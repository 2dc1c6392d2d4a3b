package exchange

import (
	"context"
	"maps"
	"math"
	"strings"
	"sync"
	"time"
)

// Memory is an Exchanger that keeps the shared state in this process, for
// simulations and tests, by the rules of the scripts in internal/redisstore. It has
// no goroutine and no timer, encodes nothing, and is safe for concurrent use.
//
// Except: it sweeps expired states by itself, and never sets Reply.Wait.
type Memory struct {
	mu    sync.Mutex
	now   func() time.Time
	state memoryState
}

type memoryState struct {
	parts []memoryPartition
	fleet memoryFleet
}

var _ Exchanger = (*Memory)(nil)

// NewMemory returns an empty Memory. The function now takes the place of a server's
// time; it is called once a batch, and its times must be after 1970.
func NewMemory(partitions int, now func() time.Time) *Memory {
	return &Memory{now: now, state: newMemoryState(partitions)}
}

func newMemoryState(partitions int) memoryState {
	s := memoryState{parts: make([]memoryPartition, partitions)}
	for p := range s.parts {
		s.parts[p] = newMemoryPartition()
	}
	s.fleet = newMemoryFleet()
	return s
}

func newMemoryPartition() memoryPartition {
	return memoryPartition{keys: map[string]*memoryKey{}, seqs: map[ID]memorySeq{}}
}

func newMemoryFleet() memoryFleet {
	return memoryFleet{seen: map[[8]byte]memoryMember{}, news: map[int64]memoryNews{}}
}

// Partitions returns the number of partitions.
func (m *Memory) Partitions() int { return len(m.state.parts) }

// Exchange implements [Exchanger].
func (m *Memory) Exchange(ctx context.Context, fleet *FleetCall, chunks []*Chunk) {
	m.mu.Lock()
	defer m.mu.Unlock()
	err := ctx.Err()
	time := m.now().UnixMicro()
	if fleet != nil {
		if fleet.Err = err; err == nil {
			fleet.Err = fleet.Check()
		}
		if fleet.Err == nil {
			m.state.fleet.call(time, fleet)
		}
	}
	for _, c := range chunks {
		if c.Err = err; err == nil {
			c.Err = c.Check(len(m.state.parts))
		}
		if c.Err == nil {
			m.state.parts[c.Partition].exchange(time, c)
		}
	}
}

// Wipe deletes all state, as FLUSHALL does.
func (m *Memory) Wipe() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.state = newMemoryState(len(m.state.parts))
}

// Snapshot is the state of a Memory at one time.
type Snapshot struct{ state memoryState }

// Snapshot returns a copy of the state, for Restore.
func (m *Memory) Snapshot() Snapshot {
	m.mu.Lock()
	defer m.mu.Unlock()
	return Snapshot{m.state.clone()}
}

// Restore rolls the state back to a snapshot, as a failover to a stale replica does.
func (m *Memory) Restore(s Snapshot) {
	state := s.state.clone()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.state = state
}

func (s memoryState) clone() memoryState {
	parts := make([]memoryPartition, len(s.parts))
	for i := range s.parts {
		parts[i] = s.parts[i].clone()
	}
	fleet := s.fleet
	fleet.seen, fleet.news = maps.Clone(fleet.seen), maps.Clone(fleet.news)
	return memoryState{parts: parts, fleet: fleet}
}

const minute = 60_000_000 // microseconds

// memoryClock is a clock that runs with a given time, but never goes back.
type memoryClock struct{ last, offset int64 }

// at returns the clock at the given time.
func (c memoryClock) at(time int64) memoryClock {
	c.offset = max(c.offset, c.last-time)
	c.last = time + c.offset
	return c
}

// never is the TAT of a key that was never charged.
const never = -MaxTime

// memoryKey is the state of a key.
type memoryKey struct {
	tat, demand, since, unused int64
	limit                      Limit // unit of tat and unused
}

// memorySeq is a sequence number and the instant at which it was applied.
type memorySeq struct{ number, since int64 }

// memoryPartition is one hash.
type memoryPartition struct {
	keys   map[string]*memoryKey
	seqs   map[ID]memorySeq
	clock  memoryClock
	expire int64 // ms of the given time; 0: never written
	swept  int   // fields left by the last sweep
}

func (p *memoryPartition) clone() memoryPartition {
	c := *p
	c.seqs = maps.Clone(p.seqs)
	c.keys = make(map[string]*memoryKey, len(p.keys))
	for field, k := range p.keys {
		state := *k
		c.keys[field] = &state
	}
	return c
}

// expired reports whether a time to expire at, in ms, has passed.
func expired(expire, time int64) bool { return expire != 0 && time/1000 >= expire }

// renewed returns the time to expire at, in ms, for a lifetime in µs.
func renewed(expire, time, lifetime int64) int64 {
	if need := (time + lifetime + 999) / 1000; expire < need {
		return need + expireLate.Milliseconds()
	}
	return expire
}

func (p *memoryPartition) exchange(time int64, c *Chunk) {
	if expired(p.expire, time) {
		*p = newMemoryPartition()
	}
	clock := p.clock.at(time)
	now, seq := clock.last, min(max(c.Seq, 0), MaxSeq)
	prev := p.prev(c.ID, now)
	status := statusOf(prev, seq, c.Floors)
	if status == Applied {
		p.clock = clock
		p.apply(time, now, seq, c)
	}
	keys := c.Reply.Keys[:0]
	for i := range c.Records {
		k := p.known(&c.Records[i], now, tauMicros(c.Tau))
		keys = append(keys, KeyState{ToGo: max(k.tat-now, LongAgo), Demand: k.demand})
	}
	c.Reply = Reply{Status: status, Now: now, Prev: prev, Keys: keys, Expires: min(p.expire*1000+clock.offset, 2*MaxTime)}
}

// statusOf returns the result of a chunk numbered seq after one numbered prev.
func statusOf(prev, seq int64, floors bool) Status {
	switch {
	case prev >= seq:
		return Duplicate
	case prev < seq-1 && !floors:
		return Lost
	}
	return Applied
}

func (p *memoryPartition) prev(id ID, now int64) int64 {
	if s, ok := p.seqs[id]; ok && !s.over(now) {
		return s.number
	}
	return 0
}

func (s memorySeq) over(now int64) bool { return s.since < now-keepSequence.Microseconds() }

func (p *memoryPartition) apply(time, now, seq int64, c *Chunk) {
	changed, furthest := p.expire == 0, now
	for i := range c.Records {
		if k := p.merge(now, tauMicros(c.Tau), &c.Records[i], c.Floors); k != nil {
			changed, furthest = true, max(furthest, k.tat)
		}
	}
	if changed {
		p.expire = renewed(p.expire, time, furthest-now+lifetime(c.Tau))
	}
	p.seqs[c.ID] = memorySeq{seq, now}
	if c.Leave {
		delete(p.seqs, c.ID)
		p.shorten(time, now, lifetime(c.Tau))
	}
	p.sweep(now)
}

// shorten brings the expiry forward, by the states that are left.
func (p *memoryPartition) shorten(time, now, lifetime int64) {
	latest := now
	for _, k := range p.keys {
		if !k.over(now) {
			latest = max(latest, k.tat)
		}
	}
	if latest-now+lifetime+minute < p.expire*1000-time {
		p.expire = renewed(0, time, latest-now+lifetime)
	}
}

// merge applies one record and returns the new state of its key. It returns nil if
// neither the state nor its limit changes: then the state keeps its time.
func (p *memoryPartition) merge(now, tau int64, r *Record, floors bool) *memoryKey {
	k := p.known(r, now, tau)
	next := k
	r.merge(&next, now, floors)
	attempts := attemptSpan(r.Attempts)
	state := p.keys[r.Field]
	same := next == k && (k.tat == never || k.limit == state.limit)
	if same && (attempts == 0 || attempts < 0 && k.demand == 0) {
		return nil
	}
	if state == nil {
		state = new(memoryKey)
		p.keys[strings.Clone(r.Field)] = state
	}
	next.demand, next.since = max(0, min(k.demand+attempts, MaxTime)), now
	*state = next
	return state
}

// known returns the state of a record's key, in time of the record's limit, with its
// demand decayed to now.
func (p *memoryPartition) known(r *Record, now, tau int64) memoryKey {
	k, lim := p.keys[r.Field], r.Limit.rounded()
	if k == nil || k.over(now) {
		return memoryKey{tat: never, limit: lim}
	}
	state := *k
	state.demand = decayed(k.demand, now-k.since, tau)
	if lim.Full > 0 {
		if k.tat != never {
			state.tat = min(now+k.limit.toGoSince(k.tat-now, span(r.Age), lim), now+MaxTime)
		}
		state.unused, state.limit = min(k.limit.Time(k.unused, lim), maxUnused), lim
	}
	return state
}

// over reports whether a state may be swept. Such a state counts as gone, so that
// the time of the sweep changes no result.
func (k *memoryKey) over(now int64) bool {
	idle := now - KeepState.Microseconds()
	return k.tat < idle && k.since < idle
}

func decayed(demand, age, tau int64) int64 {
	if demand == 0 || age <= 0 {
		return demand
	}
	return int64(math.Floor(float64(demand)*math.Exp(-float64(age)/float64(tau)) + 0.5))
}

// merge applies the record to a key's TAT and unused refill.
func (r *Record) merge(k *memoryKey, now int64, floors bool) {
	if r.Op == Reset {
		k.tat, k.unused = now, 0
		return
	}
	if floor := floorSpan(r.Floor); floors && floor != 0 {
		k.tat = max(k.tat, now+floor)
	}
	delta, ceiling, first := span(r.Delta), span(r.Ceiling), now-span(r.Age)
	switch {
	case r.Op == Refund:
		k.tat = max(k.tat-delta, min(k.tat, now))
		return
	case delta == 0:
		return
	}
	left := min(delta, 256*maxUnused) * int64(r.Left) / 256
	if r.Op == Late { // its ceiling is the part that takes nothing unused
		used := max(0, min(delta-ceiling, k.unused, now-first))
		k.unused, delta, ceiling = k.unused-used, delta-used, 0
	}
	base := max(k.tat, first)
	if k.tat != never && base > k.tat {
		k.unused += base - k.tat
	}
	k.unused = min(k.unused+left, maxUnused)
	charged := base + delta
	if ceiling > 0 {
		charged = min(charged, max(base, now+ceiling))
	}
	k.tat = min(charged, now+MaxTime)
}

// sweep deletes expired states once the partition has doubled since the last sweep:
// a constant effort per field added.
func (p *memoryPartition) sweep(now int64) {
	if len(p.keys)+len(p.seqs) < 2*p.swept+1024 {
		return
	}
	maps.DeleteFunc(p.keys, func(_ string, k *memoryKey) bool { return k.over(now) })
	maps.DeleteFunc(p.seqs, func(_ ID, s memorySeq) bool { return s.over(now) })
	p.swept = len(p.keys) + len(p.seqs)
}
