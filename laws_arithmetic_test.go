package limiter

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"math/big"
	"testing"
	"time"

	"golang.org/x/time/rate"
	"pgregory.net/rapid"

	"github.com/seed-e56e777b/limiter/internal/account"
	"github.com/seed-e56e777b/limiter/internal/bucket"
	"github.com/seed-e56e777b/limiter/internal/demand"
	"github.com/seed-e56e777b/limiter/internal/exchange"
	"github.com/seed-e56e777b/limiter/internal/mono"
	"github.com/seed-e56e777b/limiter/internal/outage"
)

// noise is what sums of floating-point numbers may be off by, in parts.
const noise = 1e-6 // some are float32

// peers are processes of one fleet that agree on the state of one key and on
// each other's demand.
type peers struct {
	lim    Limit
	world  *account.Params
	now    int64
	tat    int64
	demand []float64 // tokens per second
	others []float64
}

func drawPeers(t *rapid.T) *peers {
	n := rapid.IntRange(2, 40).Draw(t, "processes")
	silent := rapid.IntRange(0, n-1).Draw(t, "silent")
	interval := rapid.SampledFrom([]time.Duration{minInterval, 100 * time.Millisecond, time.Second, maxInterval}).Draw(t, "interval")
	p := &peers{
		lim:   Limit{Rate: rate.Limit(rapid.Float64Range(1e-3, 1e6).Draw(t, "rate")), Burst: rapid.IntRange(1, 1e6).Draw(t, "burst")},
		now:   int64(time.Hour),
		world: account.NewParams(float64(n), 0, float64(n-silent)/float64(n), interval, time.Duration(rapid.IntRange(0, 1e9).Draw(t, "rtt")), account.TauIntervals*interval),
	}
	full := mono.Seconds(float64(p.lim.Burst) / float64(p.lim.Rate))
	p.tat = p.now + int64(rapid.Float64Range(-2, 3).Draw(t, "bursts to go")*float64(min(full, 1000*time.Hour)))
	total := 0.
	for range n {
		d := rapid.Float64Range(0, 10).Draw(t, "demand in rates") * float64(p.lim.Rate)
		p.demand, total = append(p.demand, d), total+d
	}
	for _, d := range p.demand {
		p.others = append(p.others, max(0, total-d))
	}
	return p
}

// account is what process i keeps of the key.
func (p *peers) account(i int) (account.Account, bucket.Bucket) {
	a, b := account.New(p.now), newBucket(p.lim, p.now)
	a.TAT, a.RepliedAt = p.tat, p.now
	a.Demand, a.Others = p.demand[i], p.others[i]
	a.MeanOwn, a.MeanOwnAtReply, a.MeanOthers = p.demand[i], float32(p.demand[i]), float32(p.others[i])
	if p.world.Scale < 1 {
		a.Silence.Then = 1 // all of the demand has gone silent: each of the silent is left an equal share
	}
	return a, b
}

// TestLawGrantsSumToTheRate: what processes that agree on each other's demand
// grant themselves by one state sums to no more than there is: shares to 1,
// share-mode refills to what the silent leave of the rate, levels to the level;
// a pool-mode refill is what the others' demand leaves.
func TestLawGrantsSumToTheRate(t *testing.T) {
	check(t, draws{normal: 100}, func(t *rapid.T) {
		p := drawPeers(t)
		r := float64(p.lim.Rate) * p.world.Scale
		held := rapid.Bool().Draw(t, "held")
		shares, refills, levels, shared := 0., 0., 0., 0.
		for i := range p.demand {
			a, b := p.account(i)
			if held {
				a.FrozenShare, a.HoldUntil = rapid.Float32Range(0, 1).Draw(t, "share before"), p.now+1
			}
			a.Regrant(&b, p.now, p.world)
			if b.Mode == bucket.Pool {
				if want := max(0, r-p.others[i]); b.Refill != want {
					t.Fatalf("in pool mode a refill of %v, where the others leave %v", b.Refill, want)
				}
				continue
			}
			shares, refills, levels = shares+a.Share, refills+b.Refill, levels+max(0, b.Level)
			shared = max(shared, a.SharedLevel(&b, p.now, r))
		}
		switch {
		case shares > 1+noise:
			t.Fatalf("shares sum to %v", shares)
		case refills > r*(1+noise):
			t.Fatalf("refills sum to %v of %v", refills, r)
		case levels > shared*(1+noise):
			t.Fatalf("levels sum to %v of %v", levels, shared)
		}
	})
}

// TestLawOutageSharesSumToTheRate: likewise without any exchange when an outage
// begins, at once or after all have been quiet for a while; and what it then leaves to those that were idle is never more than
// idleShare of the rate beyond it.
func TestLawOutageSharesSumToTheRate(t *testing.T) {
	check(t, draws{normal: 100}, func(t *rapid.T) {
		p := drawPeers(t)
		since := p.now + rapid.SampledFrom([]int64{0, rapid.Int64Range(0, int64(10*time.Minute)).Draw(t, "quiet")}).Draw(t, "before the outage")
		later := since + rapid.Int64Range(0, int64(time.Hour)).Draw(t, "into the outage")
		refills, drifted, levels := 0., 0., 0.
		for i := range p.demand {
			a, b := p.account(i)
			a.ResidentSince = p.now - int64(time.Minute)
			a.DemandAtReport, a.OwnAtReply = float32(a.Demand), float32(a.Demand)
			a.ApplyOutage(&b, since, since, p.world)
			levels, refills = levels+max(0, b.Level), refills+b.Refill
			a.ApplyOutage(&b, since, later, p.world)
			drifted += b.Refill
		}
		if r := float64(p.lim.Rate); refills > r*(1+noise) || drifted > r*(1+outage.IdlePart)*(1+noise) {
			t.Fatalf("refills sum to %v, later to %v, of %v", refills, drifted, r)
		}
		if b := float64(p.lim.Burst); levels > b*(1+noise) {
			t.Fatalf("levels sum to %v of a burst of %v", levels, b)
		}
	})
}

// TestLawDebtHoldsBack: whatever its grant, a bucket admits a cost when its
// refill has brought the level to the threshold, and not before.
func TestLawDebtHoldsBack(t *testing.T) {
	check(t, draws{normal: 100}, func(t *rapid.T) {
		now := int64(time.Hour)
		b := newBucket(Limit{Rate: rate.Limit(rapid.Float64Range(1e-2, 1e5).Draw(t, "rate")), Burst: rapid.IntRange(1, 1000).Draw(t, "burst")}, now)
		b.Mode = rapid.SampledFrom([]bucket.Mode{bucket.Pool, bucket.Share, bucket.Stale}).Draw(t, "mode")
		b.Threshold = rapid.Float32Range(0.001, 1).Draw(t, "threshold")
		b.Refill *= rapid.Float64Range(0.01, 1).Draw(t, "part of the rate")
		b.Capacity *= rapid.Float64Range(0.1, 1).Draw(t, "part of the burst")
		n := rapid.Float64Range(0, b.Capacity).Draw(t, "cost")
		b.Charge(now, b.LevelAt(now)+rapid.Float64Range(0, 1e9*b.Refill).Draw(t, "debt"))
		due := now + int64(bucket.Delay(b.Level-b.Need(n), b.Refill))
		edge := 4 + (due-now)/(1<<40) // nanoseconds: of rounding, and what counts as nothing
		early, late := b, b
		if due-edge > now && admitsAt(early, due-edge, n) {
			t.Fatalf("%v admitted %d ns early by %+v", n, edge, b)
		}
		if !admitsAt(late, due+edge, n) {
			t.Fatalf("%v denied %d ns late by %+v", n, edge, b)
		}
	})
}

// TestLawChargesInAnyOrder: reports of any number of lanes, each of which sends
// one after the other, may arrive in any order and any number of times: a TAT
// that is ahead of now has been moved by the sum, and each report counted once.
func TestLawChargesInAnyOrder(t *testing.T) {
	check(t, draws{normal: 100}, func(t *rapid.T) {
		rapid.SyncTest(t, func(t *rapid.T) {
			r := newRig(t, Config{Limit: busy})
			r.count(hotKeys)
			var made []*exchange.Chunk
			seqs := map[exchange.ID]int64{}
			draw := func(t *rapid.T) *exchange.Chunk {
				c := &exchange.Chunk{ID: exchange.ID{1, 8: byte(rapid.IntRange(0, 3).Draw(t, "lane"))}, Tau: time.Second}
				for range rapid.IntRange(0, 4).Draw(t, "records") {
					c.Records = append(c.Records, exchange.Record{
						Field: "k" + r.key(),
						Delta: rapid.Int64Range(0, 1e9).Draw(t, "delta"), Age: rapid.Int64Range(0, 1e9).Draw(t, "age"),
					})
				}
				return c
			}
			r.repeat(r.passing(0, time.Microsecond, time.Hour), map[string]func(*rapid.T){
				"next": func(t *rapid.T) {
					c := draw(t)
					seqs[c.ID]++
					c.Seq = seqs[c.ID]
					made = append(made, c)
					r.due.add(r.change(c.Records), 1)
					r.sent[number{c.ID, c.Seq}] = c.Records
					r.deliver(c)
				},
				"again": func(t *rapid.T) {
					if len(made) == 0 {
						t.Skip("none")
					}
					r.deliver(rapid.SampledFrom(made).Draw(t, "which"))
				},
				"too soon": func(t *rapid.T) {
					c := draw(t)
					c.Seq = seqs[c.ID] + 2
					if r.deliver(c); c.Reply.Status != exchange.Lost {
						t.Fatalf("one after one that is missing: %v", c.Reply.Status)
					}
				},
				"": func(*rapid.T) { r.checkConserved(0) },
			})
		})
	})
}

// step is one record of a fuzzed history.
type step struct {
	After                               uint32 // µs since the step before
	Key, Op                             uint8  // the upper bits of Op are left
	Delta, Age, Ceiling, Floor, Attempt int64
}

// twin computes TATs from a whole history, by the words of docs/design.md §4
// and §11, in numbers that don't overflow.
type twin struct{ steps []step }

// capped is a duration as it is believed: at most 71 years.
func capped(x, least int64) *big.Int { return big.NewInt(max(least, min(x, 1<<51))) }

func least(x, y *big.Int) *big.Int {
	if x.Cmp(y) < 0 {
		return x
	}
	return y
}

func most(x, y *big.Int) *big.Int {
	if x.Cmp(y) > 0 {
		return x
	}
	return y
}

// toGo is TAT − now of a key after the last step; false where it was never
// charged, or is forgotten: full for a minute, and unchanged for as long.
func (w *twin) toGo(key uint8, floors bool) (*big.Int, bool) {
	plus := func(x, y *big.Int) *big.Int { return new(big.Int).Add(x, y) }
	minus := func(x, y *big.Int) *big.Int { return new(big.Int).Sub(x, y) }
	never := new(big.Int).Neg(new(big.Int).Lsh(big.NewInt(1), 70))
	now, tat, since, unused := new(big.Int), never, never, new(big.Int)
	for _, s := range w.steps {
		now = plus(now, big.NewInt(int64(s.After)))
		if idle := minus(now, big.NewInt(60e6)); tat.Cmp(idle) < 0 && since.Cmp(idle) < 0 {
			tat, since, unused = never, never, new(big.Int)
		}
		if s.Key != key {
			continue
		}
		was, wasUnused := tat, unused
		delta := capped(s.Delta, 0)
		if floor := capped(s.Floor, -1<<42); floors && floor.Sign() != 0 && exchange.Op(s.Op%4) != exchange.Reset {
			tat = most(tat, plus(now, floor))
		}
		switch op := exchange.Op(s.Op % 4); op {
		case exchange.Reset:
			tat, unused = now, new(big.Int)
		case exchange.Refund:
			tat = most(minus(tat, delta), least(tat, now))
		case exchange.Charge, exchange.Late:
			if delta.Sign() == 0 {
				break
			}
			first, ceiling := minus(now, capped(s.Age, 0)), capped(s.Ceiling, 0)
			left := new(big.Int).Rsh(new(big.Int).Mul(delta, big.NewInt(int64(s.Op/4))), 8)
			if op == exchange.Late {
				taken := most(new(big.Int), least(minus(delta, ceiling), least(unused, capped(s.Age, 0))))
				unused, delta, ceiling = minus(unused, taken), minus(delta, taken), new(big.Int)
			}
			base := most(tat, first)
			if tat != never && base.Cmp(tat) > 0 {
				unused = plus(unused, minus(base, tat))
			}
			unused = least(plus(unused, left), big.NewInt(7e6))
			tat = plus(base, delta)
			if ceiling.Sign() != 0 {
				tat = least(tat, most(base, plus(now, ceiling)))
			}
			tat = least(tat, plus(now, big.NewInt(1<<52)))
		}
		if tat.Cmp(was) != 0 || unused.Cmp(wasUnused) != 0 || s.Attempt > 0 {
			since = now
		}
	}
	return minus(tat, now), tat != never
}

func history(data []byte) (steps []step) {
	for r := bytes.NewReader(data); len(steps) < 30; {
		var s step
		if binary.Read(r, binary.LittleEndian, &s) != nil {
			return steps
		}
		s.Key %= 2
		steps = append(steps, s)
	}
	return steps
}

// FuzzMerge holds the shared state against a twin that reckons from the whole
// history, slowly and dumbly.
func FuzzMerge(f *testing.F) {
	seed := func(floors bool, steps ...step) {
		var data bytes.Buffer
		if err := binary.Write(&data, binary.LittleEndian, steps); err != nil {
			f.Fatal(err)
		}
		f.Add(floors, data.Bytes())
	}
	seed(false, step{Delta: 5}, step{After: 3, Delta: 7, Age: 9}, step{Op: 1, Delta: 4}, step{Op: 2})
	seed(false, step{Delta: 9e6, Ceiling: 1e6, Attempt: 1}, step{After: 2e6, Key: 1, Delta: 1, Age: 1e9}, step{Op: 1, Delta: 1e9})
	seed(false, step{Delta: 9e6}, step{Delta: 1, Ceiling: 1e6}, step{Delta: 1, Ceiling: 9e6 + 2})
	seed(true, step{Floor: 5e6}, step{Delta: 2, Floor: -7}, step{After: 70e6, Floor: -1, Op: 1}, step{Delta: math.MaxInt64, Age: math.MinInt64})
	seed(false, step{Delta: 1e6}, step{After: 4e6, Delta: 1e6}, step{Op: 3, Delta: 5e6, Age: 2e6}, step{Op: 3, Delta: 5e6, Age: 2e6})
	seed(false, step{Op: 128, Delta: 8e6}, step{Op: 3, Delta: 5e6, Age: 3e6}, step{Op: 3, Delta: 5e6, Age: 3e6})
	seed(true, step{Delta: 1}, step{After: 59e6, Attempt: 1}, step{After: 61e6, Delta: 1, Age: 100e6})
	f.Fuzz(func(t *testing.T, floors bool, data []byte) {
		now := time.UnixMicro(1e15)
		m := exchange.NewMemory(1, func() time.Time { return now })
		w := &twin{}
		for i, s := range history(data) {
			now = now.Add(time.Duration(s.After) * time.Microsecond)
			field := "k" + string(rune('a'+s.Key))
			c := &exchange.Chunk{
				ID: exchange.ID{1}, Seq: int64(i + 1), Tau: time.Second, Floors: floors,
				Records: []exchange.Record{{
					Field: field, Op: exchange.Op(s.Op % 4), Left: s.Op / 4, Delta: s.Delta, Age: s.Age, Ceiling: s.Ceiling, Floor: s.Floor, Attempts: s.Attempt,
				}},
			}
			m.Exchange(t.Context(), nil, []*exchange.Chunk{c})
			w.steps = append(w.steps, s)
			want := big.NewInt(exchange.LongAgo)
			if toGo, known := w.toGo(s.Key, floors); known {
				want = most(want, toGo)
			}
			if got := c.Reply.Keys[0].ToGo; c.Err != nil || big.NewInt(got).Cmp(want) != 0 {
				t.Fatalf("%+v: %v, TAT is %d ahead, want %v", w.steps, c.Err, got, want)
			}
		}
	})
}

// validShared reports whether a limit may be configured and is one that a
// fleet shares.
func validShared(lim Limit) bool {
	b := newBucket(lim, 1)
	return lim.validate() == nil && b.Shared()
}

// FuzzRelimit: under another limit a bucket keeps what is left, at most the new burst,
// and what is owed, here and by the last reply; what is unreported stays what it is; and
// a grant stays within the limit.
func FuzzRelimit(f *testing.F) {
	f.Add(10., 10, 1., 100, 3., int64(7))
	f.Add(1e-9, 5, 1e18, 1000000000, -1e6, int64(-3))
	f.Add(1000., 1, 0.3, 1, 0.5, int64(1<<53))
	f.Fuzz(func(t *testing.T, fromRate float64, fromBurst int, toRate float64, toBurst int, level float64, usage int64) {
		from, to := Limit{rate.Limit(fromRate), fromBurst}, Limit{rate.Limit(toRate), toBurst}
		if !validShared(from) || !validShared(to) || math.IsNaN(level) {
			t.Skip()
		}
		b := newBucket(from, 1)
		b.Level = max(-bucket.MaxTokens, min(level, b.Burst))
		b.Capacity, b.Refill = b.Burst/3, b.Rate/3
		a := account.New(1)
		a.Usage = int64(bucket.Clamp(float64(usage)))
		a.Carry = 5
		const now = int64(1e9)
		a.RepliedAt, a.TAT = now, now+int64(max(0, min((b.Burst-b.Level)/b.Rate*1e9, 1e18)))
		left, shared, untold := min(b.LevelAt(now), float64(to.Burst)), min(a.SharedLevel(&b, now, b.Rate), float64(to.Burst)), float64(a.Usage)+a.Carry*b.Rate/1e6
		next := newBucket(to, now)
		a.Relimit(&b, &next, now)
		b.Relimit(now, &next)
		if b.Rate != next.Rate || b.Burst != next.Burst {
			t.Errorf("%v to %v: has become %v", from, to, limitOf(&b))
		}
		if got := b.LevelAt(now); math.Abs(got-left) > noise*math.Abs(left) {
			t.Errorf("%v to %v: %v tokens are left instead of %v", from, to, got, left)
		}
		rounding := 1e-6*(float64(from.Rate)+b.Rate) + noise*(math.Abs(shared)+float64(from.Burst)+b.Burst)
		coarse := math.Abs(shared) * 1e-6 * (float64(from.Rate)/float64(from.Burst) + b.Rate/b.Burst) // of Full, a whole number of µs
		if got := min(a.SharedLevel(&b, now, b.Rate), b.Burst); math.Abs(got-shared) > rounding+coarse && a.TAT-now < 1e18 {
			t.Errorf("%v to %v: the fleet's bucket has %v tokens instead of %v", from, to, got, shared)
		}
		if got := float64(a.Usage) + a.Carry*b.Rate/1e6; math.Abs(got-untold) > noise*math.Abs(untold) {
			t.Errorf("%v to %v: %v tokens are unreported instead of %v", from, to, got, untold)
		}
		if !(b.Capacity > 0 && b.Capacity <= b.Burst && b.Refill >= 0 && b.Refill <= b.Rate) {
			t.Errorf("%v to %v: a grant of %+v", from, to, b.Grant)
		}
	})
}

// What is more than anybody can ask for: beyond it numbers leave the range of
// float64.
const (
	maxRate   = 1e30
	maxDemand = 1e30 // tokens per second; 2^53 tokens in each of 10^14 calls a second
)

// FuzzGrant: whatever the fleet says, a share lies in [0, 1], and a grant is
// finite, refills by 0 or more and no more than the rate, and holds no more
// than the burst.
func FuzzGrant(f *testing.F) {
	f.Add(1000., 100, 300., 2700., uint16(10), uint16(2), int64(1e8), int64(1e6), int64(3e7), int64(5), 0.25, false)
	f.Add(1e-3, 5, 0., 1e24, uint16(60000), uint16(0), int64(1e6), int64(0), int64(-1e18), int64(-5), 0., true)
	f.Add(1e18, 1, 1e24, 1e24, uint16(2), uint16(1), int64(6e10), int64(6e10), int64(1e18), int64(1<<53), 1., true)
	f.Fuzz(func(t *testing.T, r float64, burst int, own, others float64, fleet, silent uint16, interval, rtt, toGo, usage int64, share float64, held bool) {
		lim := Limit{rate.Limit(r), burst}
		n := max(1, float64(fleet))
		within := func(x, most float64) bool { return x >= 0 && x <= most }
		if !validShared(lim) || !within(r, maxRate) || !within(own, maxDemand) || !within(others, maxDemand) || !within(share, 1) {
			t.Skip()
		}
		now := int64(time.Hour)
		every := time.Duration(max(int64(minInterval), min(interval, int64(time.Hour))))
		w := account.NewParams(n, 0, max(1, n-float64(silent))/n, every, time.Duration(max(0, min(rtt, int64(time.Hour)))), account.TauIntervals*every)
		b, a := newBucket(lim, now), account.New(now)
		a.Demand, a.Others, a.MeanOwn, a.MeanOthers, a.FrozenShare = own, others, own, float32(others), float32(share)
		a.Usage, a.InFlight = int64(bucket.Clamp(float64(usage))), 1
		a.RepliedAt, a.TAT = now, now+max(-now, min(toGo, mono.Never-now))
		if held {
			a.HoldUntil = now + 1
		}
		if s := demand.Share(own, others, r, n); !(s >= 0 && s <= 1) {
			t.Errorf("a share of %v", s)
		}
		check := func(what string) {
			if err := errors.Join(b.Check(), a.Check(false)); err != nil || !(b.Refill <= b.Rate) || !(b.Capacity <= b.Burst) || !(b.Capacity >= 0) {
				t.Errorf("%s: %v: %+v %+v", what, err, b, a)
			}
		}
		a.Regrant(&b, now, w)
		check("connected")
		a.ApplyOutage(&b, now, now+int64(w.Rtt), w)
		check("in an outage")
	})
}

// admitsAt reports whether a bucket admits a cost of n at an instant.
func admitsAt(b bucket.Bucket, now int64, n float64) bool {
	return b.Unlimited() || b.Admits(b.LevelAt(now), n)
}
