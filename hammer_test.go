package limiter

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/time/rate"

	"github.com/seed-e56e777b/limiter/internal/account"
	"github.com/seed-e56e777b/limiter/internal/bucket"
	"github.com/seed-e56e777b/limiter/internal/exchange"
	"github.com/seed-e56e777b/limiter/internal/mono"
	"github.com/seed-e56e777b/limiter/internal/table"

	"github.com/seed-e56e777b/limiter/internal/longtest"
	"github.com/seed-e56e777b/limiter/internal/simnet"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// tap is a way to a state in memory that a test can listen to and break.
type tap struct {
	state *exchange.Memory
	delay time.Duration // one way

	mu     sync.Mutex
	before func(*exchange.FleetCall, []*exchange.Chunk) error // an error: nothing gets there
	after  func(*exchange.FleetCall, []*exchange.Chunk)       // may turn replies into errors, or take its time
}

func newTap() *tap {
	return &tap{state: exchange.NewMemory(simnet.Partitions, time.Now), delay: time.Millisecond}
}

func (p *tap) Exchange(ctx context.Context, fl *exchange.FleetCall, chunks []*exchange.Chunk) {
	p.mu.Lock()
	before, after := p.before, p.after
	p.mu.Unlock()
	time.Sleep(p.delay)
	if before != nil && before(fl, chunks) != nil {
		simnet.Fail(fl, chunks)
		return
	}
	p.state.Exchange(ctx, fl, chunks)
	time.Sleep(p.delay)
	if after != nil {
		after(fl, chunks)
	}
}

func (p *tap) listen(before func(*exchange.FleetCall, []*exchange.Chunk) error, after func(*exchange.FleetCall, []*exchange.Chunk)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.before, p.after = before, after
}

// cut lets nothing through.
func (p *tap) cut() {
	p.listen(func(*exchange.FleetCall, []*exchange.Chunk) error { return simnet.ErrCut }, nil)
}

// join adds a limiter behind the tap to a fleet.
func (p *tap) join(f *fleet, cfg Config) *Limiter {
	f.t.Helper()
	cfg.Logger = quiet
	cfg, err := cfg.checked()
	if err != nil {
		f.t.Fatal(err)
	}
	l := newLimiter(cfg, p, simnet.Partitions, uint64(len(f.members)))
	f.add(l)
	return l
}

// tapped is a fleet of one behind a tap, in contact.
func tapped(t *testing.T, cfg Config) (*Limiter, *tap, *fleet) {
	t.Helper()
	p := newTap()
	f := &fleet{t: t, Net: &simnet.Net{State: p.state}}
	l := p.join(f, cfg)
	until(t, "in contact", func() bool { return l.Status().State == Synced })
	return l, p, f
}

// neighbour is a key of the same partition as another.
func neighbour(key string) string {
	for i := 0; ; i++ {
		if k := fmt.Sprint(key, i); exchange.Partition("k"+k, simnet.Partitions) == exchange.Partition("k"+key, simnet.Partitions) {
			return k
		}
	}
}

// faults is a way to a state in memory that fails in every way there is, on
// purpose and at random, for as long as it is on.
type faults struct {
	state *exchange.Memory
	wipes bool
	on    atomic.Bool

	mu    sync.Mutex
	rng   *rand.Rand
	inRow int // failures of everything since the last success
}

func (x *faults) Exchange(ctx context.Context, fl *exchange.FleetCall, chunks []*exchange.Chunk) {
	if !x.on.Load() {
		x.state.Exchange(ctx, fl, chunks)
		return
	}
	hang, all, sent, lost := x.plan(chunks)
	if hang > 0 {
		select {
		case <-time.After(hang):
		case <-ctx.Done():
		}
	}
	if all {
		simnet.Fail(fl, chunks)
		return
	}
	x.state.Exchange(ctx, fl, sent)
	for i, c := range chunks {
		if !slices.Contains(sent, c) || lost[i] {
			c.Err = simnet.ErrCut
		}
	}
}

// plan says how long the call hangs, whether all of it fails, and else which
// chunks arrive and whose replies get lost. Not everything may fail for so
// long that others would count this process as silent: it would then be given
// its part of the rate, and what was charged could not be checked.
func (x *faults) plan(chunks []*exchange.Chunk) (hang time.Duration, all bool, sent []*exchange.Chunk, lost []bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	switch x.rng.IntN(40) {
	case 0:
		hang = 320 * time.Millisecond // longer than the deadline
	case 1, 2, 3, 4:
		hang = time.Duration(x.rng.IntN(20)) * time.Millisecond
	case 5:
		if x.wipes {
			x.state.Wipe()
		}
	}
	if all = x.inRow < 2 && x.rng.IntN(8) == 0; all {
		x.inRow++
		return hang, true, nil, nil
	}
	x.inRow = 0
	lost = make([]bool, len(chunks))
	for i, c := range chunks {
		switch x.rng.IntN(12) {
		case 0:
			continue
		case 1:
			lost[i] = true
		}
		sent = append(sent, c)
	}
	return hang, false, sent, lost
}

// conserved is the key whose tokens are counted: a token is a second, it is
// never full again, its limit never changes, and it is in use too often to be
// evicted.
const conserved = "conserved"

// hammer is a limiter under attack from many goroutines.
type hammer struct {
	*Limiter
	t     *testing.T
	store *faults
	gen   atomic.Int64 // of the limits
	taken atomic.Int64 // of the conserved key
	keys  []string
}

var hammerLimits = []Limit{
	{Rate: 100, Burst: 10}, {Rate: 1e6, Burst: 1e6}, {Rate: 1e-9, Burst: 5}, {Rate: rate.Inf}, {}, {Rate: 1e18, Burst: 1e9},
}

func newHammer(t *testing.T, wipes bool) *hammer {
	h := &hammer{t: t, store: &faults{
		state: exchange.NewMemory(simnet.Partitions, time.Now), wipes: wipes, rng: rand.New(rand.NewPCG(1, 1)),
	}}
	cfg, err := Config{
		Limit: hammerLimits[0], LimitFor: h.limitFor, MaxKeys: 64, SyncInterval: 100 * time.Millisecond, Processes: 1,
		Logger: quiet, OnChange: func(Status) {},
	}.checked()
	if err != nil {
		t.Fatal(err)
	}
	h.keys = append(h.keys, oddKeys...)
	for i := range 150 {
		h.keys = append(h.keys, fmt.Sprint("key", i))
	}
	h.Limiter = newLimiter(cfg, h.store, simnet.Partitions, 1)
	return h
}

func (h *hammer) limitFor(key string) (Limit, bool) {
	if key == conserved {
		return Limit{Rate: 1, Burst: 1e9}, true
	}
	i := (len(key) + int(h.gen.Load())) % (len(hammerLimits) + 1)
	if i == len(hammerLimits) {
		return Limit{}, false
	}
	return hammerLimits[i], true
}

// attack calls everything at random until the end.
func (h *hammer) attack(seed uint64, end time.Time) {
	rng := rand.New(rand.NewPCG(2, seed))
	var held [8]Reservation // to be cancelled when their keys may be long gone
	for time.Now().Before(end) {
		h.count(rng)
		key, n := h.keys[rng.IntN(len(h.keys))], rng.IntN(12)
		switch rng.IntN(16) {
		case 0, 1, 2:
			h.AllowN(key, n)
		case 3:
			if r := h.TakeN(key, n); !r.Allowed && r.RetryAfter == 0 {
				h.t.Errorf("denied, to be retried at once: %+v", r)
			}
		case 4:
			h.Peek(key)
		case 5, 6:
			r := &held[rng.IntN(len(held))]
			r.Cancel()
			*r = h.ReserveN(key, n)
		case 7:
			if r := held[rng.IntN(len(held))]; r.Delay() < 0 {
				h.t.Error("a negative delay")
			}
		case 8:
			h.Refund(key, n)
		case 9:
			h.Charge(key, n)
		default:
			h.disturb(rng, key, n)
		}
	}
}

// disturb calls what is rare or takes time.
func (h *hammer) disturb(rng *rand.Rand, key string, n int) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(rng.IntN(3000))*time.Microsecond)
	defer cancel()
	switch rng.IntN(40) {
	case 0:
		_ = h.Sync(ctx)
	case 1:
		_ = h.Reset(ctx, key)
	case 2:
		if err := h.SetLimit(hammerLimits[rng.IntN(len(hammerLimits))]); err != nil {
			h.t.Error(err)
		}
	case 3:
		h.gen.Add(1)
		h.Reload()
	case 4:
		_ = h.WaitN(ctx, key, n)
	case 5:
		h.Stats()
	default:
		if st := h.Status(); st.Pending < 0 || st.Processes != 1 {
			h.t.Errorf("%+v", st)
		}
	}
}

// count takes tokens of the conserved key, or gives some back.
func (h *hammer) count(rng *rand.Rand) {
	n := rng.IntN(5)
	switch rng.IntN(5) {
	case 0:
		h.Charge(conserved, n)
	case 2:
		e, r := h.Estimate(conserved, rng.IntN(5))
		if !r.Allowed {
			h.t.Error("the conserved key denies")
		}
		e.Settle(n)
		e.Settle(5)
	case 1:
		h.Refund(conserved, n)
		n = -n
	default:
		if !h.AllowN(conserved, n) {
			h.t.Error("the conserved key denies")
		}
	}
	h.taken.Add(int64(n))
}

// storm has many goroutines attack for a while.
func (h *hammer) storm(d time.Duration) {
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() { h.attack(uint64(i), time.Now().Add(d)) })
	}
	wg.Wait()
}

// settled returns when all is exchanged.
func (h *hammer) settled() {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for h.Sync(ctx) != nil {
		if ctx.Err() != nil {
			h.t.Fatalf("never settled: %+v", h.Status())
		}
	}
}

// TestHammer calls everything from many goroutines, on a state that fails in
// every way: for the race detector, for the structures, and for the tokens,
// each of which is charged exactly once.
func TestHammer(t *testing.T) {
	onAllCores(t)
	for name, wipes := range map[string]bool{"faults": false, "faults and wipes": true} {
		t.Run(name, func(t *testing.T) {
			h := newHammer(t, wipes)
			h.Charge(conserved, 1e6)
			h.settled()
			f := &fleet{Net: &simnet.Net{State: h.store.state}}
			begin, debt := time.Now(), f.ToGo(conserved)
			h.store.on.Store(true)
			h.storm(longtest.Choose[time.Duration](250, 800, 800) * time.Millisecond)
			h.store.on.Store(false)
			h.settled()
			h.checkShards(true)
			if !wipes {
				charged := int64((f.ToGo(conserved) - debt + time.Since(begin)).Round(time.Second) / time.Second)
				if taken := h.taken.Load(); charged != taken {
					t.Errorf("%d tokens taken, %d charged", taken, charged)
				}
			}
			h.closeInStorm()
			h.checkShards(false)
		})
	}
}

// closeInStorm closes the limiter, from several goroutines, while others go on.
func (h *hammer) closeInStorm() {
	h.store.on.Store(true)
	var wg sync.WaitGroup
	wg.Go(func() { h.storm(200 * time.Millisecond) })
	for range 3 {
		wg.Go(func() {
			begin := time.Now()
			if err := h.Close(); err != nil || time.Since(begin) > 2*time.Second {
				h.t.Errorf("Close: %v after %v", err, time.Since(begin))
			}
		})
	}
	wg.Wait()
}

// checkShards checks that the structures agree with each other; idle says that
// everything has been exchanged.
func (h *hammer) checkShards(idle bool) {
	h.t.Helper()
	for sh := range h.local.eachShard() {
		sh.mu.Lock()
		if err := errors.Join(sh.checkKeys(idle), sh.checkOrphans(idle)); err != nil {
			h.t.Error(err)
		}
		sh.mu.Unlock()
	}
}

func (sh *shard) checkKeys(idle bool) (err error) {
	if sh.keys.Len() == 0 && len(sh.orphans) == 0 {
		return nil
	}
	n, due, soonest, used := 0, sh.keys.Count(table.Due), mono.Never, map[*account.Account]bool{}
	sh.keys.Each(func(ref table.Ref) {
		defer ref.Unlock()
		var k lockedKey
		k.load(sh, ref, mono.Now(sh.local.base))
		n++
		if fault := errors.Join(k.checkPlace(), k.bucket.Check(), k.account.Check(idle)); fault != nil {
			err = fmt.Errorf("%q: %w: %+v %+v", k.field(), fault, k.bucket, k.account)
		}
		if k.flags.is(hasAccount) {
			used[k.account] = true
		}
		switch {
		case k.account == nil || k.short && k.bucket.Mode == bucket.Stale:
		case k.short:
			soonest = min(soonest, k.account.Due.Add(account.LazyPeriod(&k.bucket)/account.LazyScans))
		default:
			soonest = min(soonest, k.account.Due)
		}
		if k.short {
			sh.accounts.Release(k.account)
		}
	})
	for _, o := range sh.orphans {
		soonest = min(soonest, o.account.Due)
		used[o.account] = true
	}
	switch {
	case n != sh.keys.Len() || n > sh.keys.Size():
		return fmt.Errorf("%d keys visited, %d counted, of %d", n, sh.keys.Len(), sh.keys.Size())
	case max(soonest, mono.Now(sh.local.base)) < sh.nextScan.Load():
		return fmt.Errorf("a key is due at %d, and the shard is not looked through before %d", soonest, sh.nextScan.Load())
	case idle && due != 0:
		return fmt.Errorf("%d keys are due when all is exchanged", due)
	}
	return errors.Join(err, sh.accounts.Check(used))
}

func (k *lockedKey) checkPlace() error {
	a := k.account
	switch {
	case k.flags.is(awaited) != k.slot.Marked(table.Pinned):
		return errors.New("awaited and not pinned, or the other way round")
	case k.slot.Marked(table.Due) && (a == nil || a.Due == mono.Never):
		return errors.New("due, and not planned")
	case a == nil:
	case a.Orphan != 0:
		return errors.New("the account is an orphan's")
	case a.Due != mono.Never && (a.Frozen || !k.slot.Marked(table.Due)):
		return errors.New("planned, and in a report or not due")
	}
	return nil
}

func (sh *shard) checkOrphans(idle bool) error {
	untold := 0
	for i, o := range sh.orphans {
		if o.account.Orphan != uint32(i+1) {
			return fmt.Errorf("%q: the orphan at %d thinks that it is at %d", o.field, i+1, o.account.Orphan)
		}
		if !o.account.Frozen {
			untold++
		}
	}
	if untold != sh.unreportedOrphans || idle && untold != 0 {
		return fmt.Errorf("%d orphans have something to report, %d counted", untold, sh.unreportedOrphans)
	}
	return nil
}

// TestDecisionsInAFleetAllocateNothing: nor does what the exchange needs of
// them.
func TestDecisionsInAFleetAllocateNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _, f := tapped(t, Config{Limit: Limit{Rate: 1e9, Burst: 1e6}})
		defer f.close()
		for name, do := range map[string]func(string){
			"Allow":   func(k string) { l.Allow(k) },
			"Denied":  func(k string) { l.AllowN(k, 1e7) },
			"Take":    func(k string) { l.Take(k) },
			"Reserve": func(k string) { r := l.Reserve(k); r.Cancel() },
			"Charge":  func(k string) { l.Charge(k, 1); l.Refund(k, 1) },
		} {
			all := func() {
				for _, k := range oddKeys {
					do(k)
				}
			}
			if n := testing.AllocsPerRun(100, all); n != 0 {
				t.Errorf("%s allocates %v times", name, n)
			}
		}
	})
}
