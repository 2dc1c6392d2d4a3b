package limiter

import (
	"math"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-e56e777b/limiter/internal/exchange"
)

// lies are the worst that a server can say; each is told for a second.
var lies = map[string]struct {
	fleet func(*exchange.FleetReply)
	reply func(*exchange.Reply)
	debt  time.Duration // that may be found in the next server's state
}{
	"everything is lost":      {reply: func(r *exchange.Reply) { r.Status = exchange.Lost }},
	"nothing was ever known":  {reply: func(r *exchange.Reply) { r.Prev = 0 }},
	"the clock runs away":     {reply: func(r *exchange.Reply) { r.Now = 1 << 52 }},
	"all is duplicate":        {reply: func(r *exchange.Reply) { r.Status = exchange.Duplicate }},
	"everybody asks for more": {reply: eachKey(func(k *exchange.KeyState) { k.Demand = 1 << 52 })},
	"all is full":             {reply: eachKey(func(k *exchange.KeyState) { k.ToGo = exchange.LongAgo })},
	"a debt of 142 years":     {reply: eachKey(func(k *exchange.KeyState) { k.ToGo = 1 << 52 }), debt: time.Second},
	"a fleet beyond counting": {fleet: func(r *exchange.FleetReply) { r.Members = exchange.MaxMembers }},
	"a fleet that is silent": {fleet: func(r *exchange.FleetReply) {
		r.Members, r.Silent = exchange.MaxMembers, exchange.MaxMembers
	}},
	"a debt of 142 years, and a fleet to match": {
		fleet: func(r *exchange.FleetReply) { r.Members = exchange.MaxMembers },
		reply: eachKey(func(k *exchange.KeyState) { k.ToGo = 1 << 52 }),
		debt:  floorDebt,
	},
}

func eachKey(lie func(*exchange.KeyState)) func(*exchange.Reply) {
	return func(r *exchange.Reply) {
		for i := range r.Keys {
			lie(&r.Keys[i])
		}
	}
}

// TestLiesAreForgotten: ten seconds after a server that lied for one has made
// room for one that knows nothing and doesn't lie, the fleet is one bucket
// again; all that may be left of a lie is a debt of an hour beyond an empty
// bucket, which a Reset ends.
func TestLiesAreForgotten(t *testing.T) {
	for name, lie := range lies {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newTap()
				var calls atomic.Int64
				f := &fleet{t: t, state: p.state}
				defer f.close()
				for range 2 {
					p.join(f, Config{Limit: busy, Processes: 2})
				}
				f.askFor(2 * time.Second)
				p.listen(nil, func(fl *exchange.FleetCall, chunks []*exchange.Chunk) {
					calls.Add(1)
					if fl != nil && lie.fleet != nil {
						lie.fleet(&fl.Reply)
					}
					for _, c := range chunks {
						if lie.reply != nil {
							lie.reply(&c.Reply)
						}
					}
				})
				f.askFor(time.Second)
				if most := int64(2 * time.Second / urgentTick); calls.Load() > most {
					t.Errorf("%d calls in a second of lies, want at most %d", calls.Load(), most)
				}
				p.listen(nil, nil)
				p.state.Wipe()
				f.askFor(10 * time.Second)
				f.wantState(Synced)
				for i, m := range f.members {
					if n := m.Status().Processes; n != 2 {
						t.Errorf("process %d counts %d", i, n)
					}
				}
				debt := f.toGo("k")
				t.Logf("time to full: %v", debt)
				if debt > lie.debt+time.Second {
					t.Errorf("a debt of %v in the state of a server that doesn't lie, want at most %v", debt, lie.debt)
				}
				if lie.debt > 0 {
					if err := f.members[0].Reset(t.Context(), "k"); err != nil {
						t.Error(err)
					}
					f.askFor(time.Second)
				}
				const span = 5 * time.Second
				ideal := float64(busy.Rate) * span.Seconds()
				if over := (float64(f.askFor(span)) - ideal) / ideal; math.Abs(over) > 0.03 {
					t.Errorf("admitted %+.1f %% against one bucket", 100*over)
				}
			})
		})
	}
}

// askFor has every process ask for four times what the limit admits.
func (f *fleet) askFor(d time.Duration) (admitted int) {
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(time.Millisecond) {
		for _, m := range f.members {
			for range 2 {
				if m.Allow("k") {
					admitted++
				}
			}
		}
	}
	return admitted
}
