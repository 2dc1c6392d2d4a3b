package exchange_test

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/big"
	"testing"
	"time"

	"github.com/seed-e56e777b/limiter/internal/exchange"
)

// step is one record of a fuzzed history.
type step struct {
	After                               uint32 // µs since the step before
	Key, Op                             uint8  // the upper bits of Op are left
	Delta, Age, Ceiling, Floor, Attempt int64
}

// twin computes TATs from a whole history, by the rules of docs/design.md §4
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
// charged, or is forgotten: full for KeepState, and unchanged for as long.
func (w *twin) toGo(key uint8, floors bool) (*big.Int, bool) {
	plus := func(x, y *big.Int) *big.Int { return new(big.Int).Add(x, y) }
	minus := func(x, y *big.Int) *big.Int { return new(big.Int).Sub(x, y) }
	never := new(big.Int).Neg(new(big.Int).Lsh(big.NewInt(1), 70))
	now, tat, since, unused := new(big.Int), never, never, new(big.Int)
	for _, s := range w.steps {
		now = plus(now, big.NewInt(int64(s.After)))
		if idle := minus(now, big.NewInt(exchange.KeepState.Microseconds())); tat.Cmp(idle) < 0 && since.Cmp(idle) < 0 {
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
