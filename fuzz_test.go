package limiter

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"maps"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-e56e777b/limiter/internal/exchange"
	"github.com/seed-e56e777b/limiter/internal/keyform"

	"github.com/seed-e56e777b/limiter/internal/longtest"
	"github.com/seed-e56e777b/limiter/internal/simnet"
)

// fields is a state in memory that notes which fields it is told of.
type fields struct {
	state *exchange.Memory
	mu    sync.Mutex
	told  map[string]bool
}

func (x *fields) Exchange(ctx context.Context, fl *exchange.FleetCall, chunks []*exchange.Chunk) {
	x.state.Exchange(ctx, fl, chunks)
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, c := range chunks {
		for i := range c.Records {
			x.told[strings.Clone(c.Records[i].Field)] = true
		}
	}
}

// FuzzKeys: any two keys are decided, exchanged and reset each by itself, and
// what stands for one in Redis begins with a type byte, is no longer than 65
// bytes and is nobody else's.
func FuzzKeys(f *testing.F) {
	for i, key := range oddKeys {
		f.Add(key, oddKeys[(i+1)%len(oddKeys)], i%2 == 0)
	}
	long := strings.Repeat("x", keyform.MaxKey+1)
	digest := "d" + keyform.Local(long)[:keyform.DigestSize]
	f.Add(long, digest[1:], false) // a digest as a key
	f.Add(long, digest, false)     // with the type byte of one
	f.Add("m", "\x00m", false)     // the scripts' own fields
	f.Add("\x00n12345678\x00", "n", false)
	f.Add("k", "kk", true)
	f.Add(long, long[1:]+"\x00", true)      // equal but for the end
	f.Add(long[1:], long[1:]+"\x00", false) // the longest that is held as it is
	f.Add("\x00", "", true)                 // the empty key is one too
	f.Add(digest[1:]+"\x00", digest, false) // padded like a digest that is held
	f.Fuzz(func(t *testing.T, a, b string, secret bool) {
		if a == b {
			t.Skip()
		}
		synctest.Test(t, func(t *testing.T) { twoKeys(t, a, b, secret) })
	})
}

func twoKeys(t *testing.T, a, b string, secret bool) {
	cfg := Config{Limit: Limit{Rate: 1e-3, Burst: 5}, Processes: 1, Logger: quiet}
	if secret {
		cfg.KeySecret = make([]byte, minSecret)
	}
	cfg, err := cfg.checked()
	if err != nil {
		t.Fatal(err)
	}
	x := &fields{state: exchange.NewMemory(simnet.Partitions, time.Now), told: map[string]bool{}}
	l := newLimiter(cfg, x, simnet.Partitions, 1)
	defer l.Close()
	if !l.Peek(a).Allowed || l.Stats().Keys != 0 {
		t.Error("Peek denies a fresh key, or makes it resident")
	}
	if !l.AllowN(a, 5) || l.Allow(a) {
		t.Error("the burst is not what is admitted")
	}
	if r := l.Take(b); !r.Allowed || r.Remaining != 4 {
		t.Errorf("after another key was used up: %+v", r)
	}
	ctx := context.Background()
	if err := l.Sync(ctx); err != nil {
		t.Fatal(err)
	}
	if err := l.Reset(ctx, a); err != nil {
		t.Fatal(err)
	}
	if ra, rb := l.Peek(a), l.Peek(b); ra.Remaining != 5 || rb.Remaining != 4 {
		t.Errorf("after a Reset of one: %d and %d are left", ra.Remaining, rb.Remaining)
	}
	x.mu.Lock()
	told := maps.Clone(x.told)
	x.mu.Unlock()
	if len(told) != 2 {
		t.Errorf("%d fields for two keys: %v", len(told), told)
	}
	for field := range told {
		checkField(t, field, a, b, secret)
	}
}

// checkField finds a field that Redis could take for something else.
func checkField(t *testing.T, field, a, b string, secret bool) {
	t.Helper()
	switch {
	case field[0] == 'd' && len(field) == 1+keyform.DigestSize:
	case !secret && field[0] == 'k' && len(field) <= 1+keyform.MaxKey && (field[1:] == a || field[1:] == b):
	default:
		t.Errorf("a field %q for %q and %q", field, a, b)
	}
}

// script is a list of bytes that a hostile server makes its numbers of. It
// ends in zeros.
type script struct{ bytes []byte }

func (s *script) next() byte {
	if len(s.bytes) == 0 {
		return 0
	}
	b := s.bytes[0]
	s.bytes = s.bytes[1:]
	return b
}

// between is a number within bounds: the least, the most, near 0, one that the
// honest server gave, or any.
func (s *script) between(least, most, honest int64) int64 {
	switch b := s.next(); b % 8 {
	case 0:
		return honest
	case 1:
		return least
	case 2:
		return most
	case 3:
		return max(least, min(most, 0))
	case 4:
		return max(least, min(most, honest+int64(b)*1e6))
	case 5:
		return max(least, min(most, int64(b)-128))
	}
	var raw [8]byte
	for i := range raw {
		raw[i] = s.next()
	}
	u := binary.LittleEndian.Uint64(raw[:])
	return least + int64(u%uint64(most-least+1))
}

// liar answers in place of a state in memory that it keeps for when it behaves
// again: whatever internal/exchange lets through, or an error.
type liar struct {
	mu     sync.Mutex
	honest bool
	state  *exchange.Memory
	script script
}

func (x *liar) Exchange(ctx context.Context, fl *exchange.FleetCall, chunks []*exchange.Chunk) {
	time.Sleep(time.Millisecond)
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.honest && x.script.next()%2 == 0 {
		x.state = exchange.NewMemory(simnet.Partitions, time.Now) // what it kept is gone too
	}
	x.state.Exchange(ctx, fl, chunks)
	if x.honest {
		return
	}
	if fl != nil {
		x.lieOfFleet(fl)
	}
	for _, c := range chunks {
		x.lie(c)
	}
}

func (x *liar) lieOfFleet(fl *exchange.FleetCall) {
	s := &x.script
	if s.next()%8 == 1 {
		fl.Err = simnet.ErrCut
	}
	members := s.between(0, exchange.MaxMembers, int64(fl.Reply.Members))
	slowest := s.between(0, 1<<51, 0)
	fl.Reply = exchange.FleetReply{
		Now:     s.between(0, 1<<52, fl.Reply.Now),
		Members: int(members),
		Silent:  int(s.between(0, members, 0)),
		Lost:    int(s.between(0, exchange.MaxMembers, 0)),
		Slowest: time.Duration(slowest) * time.Microsecond,
		Fastest: time.Duration(s.between(0, slowest, 0)) * time.Microsecond,
		Latest:  s.between(0, 1<<53, fl.Reply.Latest),
	}
	if s.next()%2 == 1 {
		fl.Reply.News = []exchange.News{{Field: "k" + hostileKeys[1], Reset: s.next()%2 == 1, ToGo: s.between(0, 1<<52, 0), Demand: s.between(0, 1<<52, 0)}}
	}
}

func (x *liar) lie(c *exchange.Chunk) {
	s, r := &x.script, &c.Reply
	if s.next()%8 == 1 {
		c.Err = simnet.ErrCut
	}
	r.Status = exchange.Status(s.next() % 3)
	r.Now = s.between(0, 1<<52, r.Now)
	r.Prev = s.between(0, 1<<53, r.Prev)
	for i := range r.Keys {
		k := &r.Keys[i]
		k.ToGo = s.between(exchange.LongAgo, 1<<52, k.ToGo)
		k.Demand = s.between(0, 1<<52, k.Demand)
	}
}

func (x *liar) behave() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.honest = true
}

// checkAnswer finds what no answer may say, whatever the server says.
func checkAnswer(t *testing.T, what string, r Result) {
	t.Helper()
	ok := r.RetryAfter == 0
	if !r.Allowed {
		ok = r.RetryAfter > 0
	}
	if !ok || r.Remaining < 0 || r.Remaining > r.Limit.Burst || r.ResetAfter < 0 || r.Age < -1 {
		t.Errorf("%s: %+v", what, r)
	}
}

// liars is two processes before one server that lies.
type liars struct {
	*liar
	t     *testing.T
	both  []*Limiter
	calls atomic.Int64
}

func newLiars(t *testing.T, lim Limit, data []byte) *liars {
	x := &liars{t: t, liar: &liar{state: exchange.NewMemory(simnet.Partitions, time.Now), script: script{data}}}
	for seed := range uint64(2) {
		cfg, err := Config{Limit: lim, Processes: 2, Logger: quiet}.checked()
		if err != nil {
			t.Fatal(err)
		}
		x.both = append(x.both, newLimiter(cfg, x, simnet.Partitions, seed))
	}
	return x
}

func (x *liars) Exchange(ctx context.Context, fl *exchange.FleetCall, chunks []*exchange.Chunk) {
	x.calls.Add(1)
	x.liar.Exchange(ctx, fl, chunks)
}

var hostileKeys = []string{"a", "b", strings.Repeat("c", 99)}

// ask has all that can be asked for asked for, every so often for as long, and
// checks each answer.
func (x *liars) ask(d, every time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(every) {
		for i, l := range x.both {
			checkAnswer(x.t, "TakeN", l.TakeN(hostileKeys[1], 1+i*20))
			checkAnswer(x.t, "Peek", l.Peek(hostileKeys[2]))
			l.Charge(hostileKeys[2], 3)
			l.Refund(hostileKeys[2], 2)
			r := l.Reserve(hostileKeys[2])
			if !r.OK() || r.Delay() < 0 {
				x.t.Errorf("Reserve: OK %v, delay %v", r.OK(), r.Delay())
			}
			r.Cancel()
			x.admitAtOnce(l, hostileKeys[0])
		}
	}
}

// admitAtOnce asks until the key is denied, at one instant.
func (x *liars) admitAtOnce(l *Limiter, key string) {
	for n := 0; ; n++ {
		r := l.Take(key)
		checkAnswer(x.t, "Take", r)
		if !r.Allowed {
			return
		}
		if n >= r.Limit.Burst {
			x.t.Errorf("%d admitted at once of a burst of %d", n+1, r.Limit.Burst)
			return
		}
	}
}

// check finds numbers that are out of range, and loops without a pause.
func (x *liars) check(since time.Duration) {
	x.t.Helper()
	for _, l := range x.both {
		for sh := range l.local.eachShard() {
			sh.mu.Lock()
			if err := errors.Join(sh.checkKeys(false), sh.checkOrphans(false)); err != nil {
				x.t.Error(err)
			}
			sh.mu.Unlock()
		}
	}
	if most := int64(2 * since / urgentEvery); x.calls.Load() > most {
		x.t.Errorf("%d calls in %v, want at most one of each process in %v", x.calls.Load(), since, urgentEvery)
	}
	x.calls.Store(0)
}

// recovered is a fleet that is as if nothing had been: it agrees on who is
// there, and, once what the lies have left in the state is reset, on what is
// admitted.
func (x *liars) recovered(lim Limit) {
	t, ctx := x.t, context.Background()
	for i, l := range x.both {
		if st := l.Status(); st.State != Synced || st.Processes != 2 || st.Err != nil {
			t.Errorf("process %d: %+v", i, st)
		}
		for _, key := range hostileKeys {
			if err := l.Reset(ctx, key); err != nil {
				t.Errorf("Reset(%q): %v", key, err)
			}
		}
	}
	for _, l := range x.both {
		if err := l.Sync(ctx); err != nil {
			t.Error(err)
		}
	}
	const span = 10 * time.Second
	admitted := 0
	for begin := time.Now(); time.Since(begin) < span; time.Sleep(5 * time.Millisecond) {
		for _, l := range x.both {
			if l.Allow(hostileKeys[0]) {
				admitted++
			}
		}
	}
	ideal := float64(lim.Rate)*span.Seconds() + float64(lim.Burst)
	if over := (float64(admitted) - ideal) / ideal; math.Abs(over) > 0.05 {
		t.Errorf("%d admitted in %v, %+.1f %% against one bucket", admitted, span, 100*over)
	}
}

// FuzzHostileReplies: whatever a server says, within what is believed at all,
// no answer is absurd, no bucket gives more than a burst at once, nobody calls
// without a pause; and once the server behaves again so does the fleet.
func FuzzHostileReplies(f *testing.F) {
	f.Add([]byte{})
	for _, b := range []byte{3, 6, 14, 0xff, 1, 2, 9, 10}[:longtest.Choose(3, 8, 8)] {
		f.Add(bytes.Repeat([]byte{b}, 4000))
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for range longtest.Choose(1, 8, 8) {
		data := make([]byte, 4000)
		for i := range data {
			data[i] = byte(rng.Uint32())
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		synctest.Test(t, func(t *testing.T) {
			lim := Limit{Rate: 100, Burst: 25}
			x := newLiars(t, lim, data)
			defer func() {
				for _, l := range x.both {
					_ = l.Close()
				}
			}()
			x.ask(3*time.Second, 20*time.Millisecond)
			x.check(3 * time.Second)
			x.behave()
			x.ask(30*time.Second, 200*time.Millisecond) // the interval may have grown to as long as the lies went on, and a size is held for 3 τ
			x.check(30 * time.Second)
			x.recovered(lim)
		})
	})
}
