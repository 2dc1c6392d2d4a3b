// Package simnet simulates a shared state, and its network to the processes of a fleet:
// delays, losses, cuts, hangs and brownouts. It runs in the virtual time of a
// testing/synctest bubble. A process gets a [Link] in place of its Redis client.
package simnet

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/seed-e56e777b/limiter/internal/exchange"
	"github.com/seed-e56e777b/limiter/internal/outage"
)

// Partitions is the number of partitions of a simulated state.
const Partitions = 16

// ErrCut is the error of a call on a cut network.
var ErrCut = errors.New("cut off")

// Path is the network between a process and the state.
type Path struct {
	Trip        time.Duration // round trip
	Jitter      float64       // variation of each direction, as a part of its delay, up and down
	LoseRequest float64       // probability that a request is lost
	LoseReply   float64       // probability that a reply is lost
	Duplicate   float64       // probability that a request arrives twice
	Timeout     time.Duration // time after which the client gives a call up; 0: never
}

// Near is a network with a round trip of 2 ms, without faults.
var Near = Path{Trip: 2 * time.Millisecond}

// Mechanism is a part of the design that a run can switch off, to measure it. It is
// removed from the calls and the replies.
type Mechanism uint8

// The mechanisms of docs/accuracy.md's ablations.
const (
	Shares  Mechanism = 1 << iota // without it, no reply has others' demand: naive delta synchronisation
	Ages                          // without it, charges begin when they arrive
	Floors                        // without it, no process restores a lost state
	News                          // without it, no process announces keys that run low
	Unused                        // without it, late charges take no unused refill
	Ceiling                       // without it, late charges count in full
	Newer                         // without it, no reply counts processes that have replaced silent ones
)

// Net is a shared state in memory, with links to processes.
//
// A run is repeatable from its seed, to the last decision, because at each instant only
// one process runs. The i-th link wakes only at the nanoseconds 3i+1 to 3i+3 of a
// microsecond, and the driver of a run at a full microsecond. So there are at most 333
// links.
type Net struct {
	State   *exchange.Memory
	Down    atomic.Bool  // true if no call gets through
	Late    atomic.Int64 // largest random delay of each direction, nanoseconds: a brownout
	Path    Path         // path of the links made from now on
	Without Mechanism
	Rules   outage.Rules // rules that processes do not apply

	mu      sync.Mutex
	links   int
	stopped chan struct{} // closed when the server goes on; nil while it runs
}

// New returns a Net with an empty state.
func New(path Path, without Mechanism, rules outage.Rules) *Net {
	return &Net{State: exchange.NewMemory(Partitions, time.Now), Path: path, Without: without, Rules: rules}
}

// Stop stops the server as SIGSTOP does. Calls wait, and arrive when it goes on, even
// if their clients have given them up.
func (n *Net) Stop() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.stopped == nil {
		n.stopped = make(chan struct{})
	}
}

// Continue lets a stopped server go on.
func (n *Net) Continue() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.stopped != nil {
		close(n.stopped)
		n.stopped = nil
	}
}

// waiting returns a channel that is closed when a stopped server goes on, or nil while
// it runs.
func (n *Net) waiting() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.stopped
}

// ToGo returns a key's TAT − now in the shared state.
func (n *Net) ToGo(key string) time.Duration {
	field := "k" + key
	c := &exchange.Chunk{
		Partition: exchange.Partition(field, n.State.Partitions()), ID: exchange.ID{0xff}, Seq: 1, Floors: true,
		Tau: time.Second, Records: []exchange.Record{{Field: field}},
	}
	n.State.Exchange(context.Background(), nil, []*exchange.Chunk{c})
	return time.Duration(c.Reply.Keys[0].ToGo) * time.Microsecond
}

// Link is the connection of one process to the state. It takes the place of the
// process's Redis client, and implements none of its commands.
type Link struct {
	redis.UniversalClient
	Cut  atomic.Bool   // true if this process's calls don't get through
	Hung chan struct{} // calls wait until it is closed; nil: they don't wait
	Path Path

	net  *Net
	slot time.Duration // nanosecond of a microsecond at which this process wakes
	seed uint64

	mu     sync.Mutex
	asleep map[time.Time]*sleeper
}

var _ exchange.Simulated = (*Link)(nil)

// Link returns the next link. From then on, the caller's goroutine is that of the
// process.
func (n *Net) Link(seed uint64) *Link {
	n.mu.Lock()
	slot := time.Duration(3*n.links + 1)
	n.links++
	n.mu.Unlock()
	l := &Link{net: n, seed: seed, Path: n.Path, slot: slot, asleep: map[time.Time]*sleeper{}}
	l.Sleep(0)
	return l
}

// Partitions implements [exchange.Store].
func (l *Link) Partitions() int { return l.net.State.Partitions() }

// Seed implements [exchange.Simulated].
func (l *Link) Seed() uint64 { return l.seed }

// Without implements [exchange.Simulated].
func (l *Link) Without() outage.Rules { return l.net.Rules }

// SetLoss sets the probabilities that a request and that a reply is lost, from now on.
func (l *Link) SetLoss(request, reply float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.Path.LoseRequest, l.Path.LoseReply = request, reply
}

// loss returns the probabilities that a request and that a reply is lost.
func (l *Link) loss() (request, reply float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Path.LoseRequest, l.Path.LoseReply
}

// Sleep waits for about d, until an instant at which only this process wakes.
func (l *Link) Sleep(d time.Duration) { l.sleep(d, 0, 0) }

// sleeper is a goroutine that sleeps until a reserved instant.
type sleeper struct {
	at   time.Time
	name uint64
}

// sleep is [Link.Sleep] of a call with a name, in a phase of the call. If two want the
// same instant, the smaller name gets it, whichever comes first.
func (l *Link) sleep(d, phase time.Duration, name uint64) {
	s := &sleeper{time.Now().Add(d).Truncate(time.Microsecond).Add(l.slot + phase), name}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.place(s)
	for at := s.at; l.asleep[at] == s; at = s.at {
		l.mu.Unlock()
		time.Sleep(time.Until(at))
		l.mu.Lock()
		if s.at.Equal(at) {
			delete(l.asleep, at)
		}
	}
}

// place gives a sleeper the first instant, from its own on, that no smaller name has.
// Sleepers that it displaces get later ones.
func (l *Link) place(s *sleeper) {
	for !s.at.After(time.Now()) {
		s.at = s.at.Add(time.Microsecond)
	}
	for s != nil {
		other := l.asleep[s.at]
		if other != nil && other.name <= s.name {
			s.at = s.at.Add(time.Microsecond)
			continue
		}
		l.asleep[s.at] = s
		if s = other; s != nil {
			s.at = s.at.Add(time.Microsecond)
		}
	}
}

// fate is the random faults of one call.
type fate struct {
	name                              uint64
	there, back                       time.Duration
	requestLost, replyLost, duplicate bool
}

// fateOf returns a call's fate, by its name, so that the order of goroutines does not
// matter.
func (l *Link) fateOf(chunks []*exchange.Chunk) fate {
	name := l.seed<<1 + 1
	if len(chunks) > 0 {
		name += uint64(chunks[0].Partition)<<48 + uint64(chunks[0].Seq)<<8 + uint64(chunks[0].ID[8])<<56
	}
	rng := rand.New(rand.NewPCG(name, uint64(time.Now().UnixNano())))
	way := func() time.Duration {
		return time.Duration(float64(l.Path.Trip) / 2 * (1 + l.Path.Jitter*(2*rng.Float64()-1)))
	}
	loseRequest, loseReply := l.loss()
	f := fate{
		name:  name,
		there: way(), back: way(),
		requestLost: rng.Float64() < loseRequest,
		replyLost:   rng.Float64() < loseReply,
		duplicate:   rng.Float64() < l.Path.Duplicate,
	}
	if late := l.net.Late.Load(); late > 0 {
		f.there += time.Duration(rng.Int64N(late))
		f.back += time.Duration(rng.Int64N(late))
	}
	return f
}

// Exchange implements [exchange.Exchanger].
func (l *Link) Exchange(ctx context.Context, fl *exchange.FleetCall, chunks []*exchange.Chunk) {
	call := l.fateOf(chunks)
	if gone := l.Path.Timeout; gone > 0 && call.there+call.back >= gone && !call.requestLost {
		l.giveUp(call, fl, chunks)
		return
	}
	l.sleep(call.there, 1, call.name)
	if l.Hung != nil {
		<-l.Hung
	}
	if l.Cut.Load() || l.net.Down.Load() {
		Fail(fl, chunks)
		return
	}
	if on := l.net.waiting(); on != nil && !l.outlast(on, call, fl, chunks) {
		return
	}
	if !call.requestLost {
		l.net.reach(ctx, fl, chunks)
		if call.duplicate {
			l.net.reach(ctx, fl, chunks)
		}
	}
	if call.requestLost || call.replyLost {
		l.sleep(max(call.back, l.Path.Timeout-call.there), 2, call.name)
		Fail(fl, chunks)
		return
	}
	l.sleep(call.back, 2, call.name)
}

// giveUp ends a call for its client before the reply has come. The request still
// arrives, maybe later.
func (l *Link) giveUp(call fate, fl *exchange.FleetCall, chunks []*exchange.Chunk) {
	begin := time.Now()
	l.arriveLate(func() bool {
		l.sleep(call.there, 1, call.name)
		if l.Cut.Load() || l.net.Down.Load() {
			return false
		}
		if on := l.net.waiting(); on != nil {
			<-on
			l.sleep(0, 1, call.name)
		}
		return true
	}, fl, chunks)
	l.sleep(l.Path.Timeout-time.Since(begin), 2, call.name)
	Fail(fl, chunks)
}

// outlast waits until a stopped server goes on. It returns false if the client gave
// the call up before.
func (l *Link) outlast(on <-chan struct{}, call fate, fl *exchange.FleetCall, chunks []*exchange.Chunk) bool {
	goesOn := func() bool {
		<-on
		l.sleep(0, 1, call.name)
		return true
	}
	if l.Path.Timeout <= 0 {
		return goesOn()
	}
	gaveUp := time.NewTimer(l.Path.Timeout - call.there)
	defer gaveUp.Stop()
	select {
	case <-on:
		l.sleep(0, 1, call.name)
		return true
	case <-gaveUp.C:
	}
	l.arriveLate(goesOn, fl, chunks)
	l.sleep(0, 2, call.name)
	Fail(fl, chunks)
	return false
}

// arriveLate delivers a call after its delay, unless it is lost. The reply is dropped,
// and the caller may reuse the memory of the call.
func (l *Link) arriveLate(way func() bool, fl *exchange.FleetCall, chunks []*exchange.Chunk) {
	sent := make([]*exchange.Chunk, len(chunks))
	for i, c := range chunks {
		d := *c
		d.Records, d.Reply = Kept(c.Records), exchange.Reply{}
		sent[i] = &d
	}
	if fl != nil {
		presence := *fl
		presence.Announce = slices.Clone(fl.Announce)
		fl = &presence
	}
	go func() {
		if way() {
			l.net.reach(context.Background(), fl, sent)
		}
	}()
}

// Kept returns copies of records that outlive their call.
func Kept(records []exchange.Record) []exchange.Record {
	records = slices.Clone(records)
	for i := range records {
		records[i].Field = strings.Clone(records[i].Field)
	}
	return records
}

// reach delivers a call to the state, without the mechanisms that are switched off.
func (n *Net) reach(ctx context.Context, fl *exchange.FleetCall, chunks []*exchange.Chunk) {
	for _, c := range chunks {
		for i := range c.Records {
			if n.Without&Ages != 0 {
				c.Records[i].Age = 0
			}
			if n.Without&Floors != 0 {
				c.Records[i].Floor = 0
			}
			if n.Without&Unused != 0 && c.Records[i].Op == exchange.Late {
				c.Records[i].Op = exchange.Charge
			}
			if n.Without&Ceiling != 0 {
				c.Records[i].Ceiling = 0
			}
		}
	}
	if fl != nil && n.Without&News != 0 {
		fl.Announce = nil
	}
	n.State.Exchange(ctx, fl, chunks)
	if fl != nil && n.Without&Newer != 0 {
		fl.Reply.Newer = 0
	}
	for _, c := range chunks {
		for i := range c.Reply.Keys {
			if n.Without&Shares != 0 {
				c.Reply.Keys[i].Demand = 0
			}
		}
	}
}

// Fail sets the error of a whole batch.
func Fail(fl *exchange.FleetCall, chunks []*exchange.Chunk) {
	if fl != nil {
		fl.Err = ErrCut
	}
	for _, c := range chunks {
		c.Err = ErrCut
	}
}
