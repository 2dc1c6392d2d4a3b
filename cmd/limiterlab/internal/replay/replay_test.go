package replay

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/logs"
	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/model"
	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/trace"
)

var start = time.Date(2026, 3, 14, 13, 50, 0, 0, time.UTC)

// feed gives a replay one request of a key, at an instant since the start.
func feed(r *Replay, at time.Duration, key string) {
	r.Add(&logs.Entry{At: start.Add(at).UnixNano(), Key: []byte(key), HasKey: true, Whole: at%time.Second == 0})
}

func spell(t require.TestingT, s string) *Spell {
	sp, err := ParseSpell(s)
	require.NoError(t, err)
	return &sp
}

func TestWhatIsDeniedToWhomAndWhen(t *testing.T) {
	r := New(Config{Limit: limiter.Per(2, time.Minute), MaxKeys: 10, Processes: 1})
	for _, at := range []time.Duration{0, 1, 2, 3, 32, 33, 90} {
		feed(r, at*time.Second, "a") // admitted at 0 s, at 1 s, at one of 32 s and 33 s, and at 90 s
		feed(r, at*time.Second, fmt.Sprint("other", at))
	}
	r.Add(&logs.Entry{At: start.UnixNano(), HasKey: false})
	res := r.Result(5, 0)
	require.Equal(t, 14, res.Requests)
	require.Equal(t, 3, res.Denied)
	require.Equal(t, 11, res.Allowed())
	require.Equal(t, 8, res.Keys)
	require.Equal(t, 1, res.DeniedKeys)
	at := func(s int) time.Time { return start.Add(time.Duration(s) * time.Second) }
	require.Equal(t, []DeniedKey{{"a", 3, at(2), at(33)}}, res.Top)
	require.Equal(t, at(0), res.From)
	require.Equal(t, at(90), res.To)
	require.True(t, res.WholeSeconds)
	require.Zero(t, res.Lost)
	require.Equal(t, Series{10 * time.Second, []Bin{
		{at(0), 8, 2},
		{at(10), 0, 0},
		{at(20), 0, 0},
		{at(30), 4, 1},
		{at(40), 0, 0},
		{at(50), 0, 0},
		{at(60), 0, 0},
		{at(70), 0, 0},
		{at(80), 0, 0},
		{at(90), 2, 0},
	}}, res.Coarse)
}

func TestTimesThatGoBackStandStill(t *testing.T) {
	r := New(Config{Limit: limiter.Per(1, time.Minute), MaxKeys: 10, Processes: 1})
	for _, at := range []time.Duration{60, 0, 119, 120} {
		feed(r, at*time.Second, "a")
	}
	res := r.Result(5, 0)
	require.Equal(t, 2, res.Denied, "those at 0 s and 119 s: less than a minute after that at 60 s")
	require.Equal(t, 1, res.Back)
	require.Equal(t, time.Minute, res.FarBack)
}

func TestTimesAreThoseOfTheLogsZone(t *testing.T) {
	r := New(Config{Limit: limiter.Per(1, time.Hour), MaxKeys: 10, Processes: 1})
	for range 2 {
		r.Add(&logs.Entry{At: start.UnixNano(), Offset: 5*3600 + 45*60, Key: []byte("a"), HasKey: true})
	}
	res := r.Result(1, 0)
	require.Equal(t, "2026-03-14T19:35:00+05:45", res.Top[0].First.Format(time.RFC3339))
	require.Equal(t, "2026-03-14T19:35:00+05:45", res.Over.Bins[0].From.Format(time.RFC3339))
}

func TestWhatIsForgottenIsSaid(t *testing.T) {
	r := New(Config{Limit: limiter.Per(1, time.Minute), MaxKeys: 2, Processes: 1})
	for i, key := range []string{"a", "b", "c", "a", "a", "b", "b", "c", "c"} { // each key returns after its eviction
		feed(r, time.Duration(i)*time.Millisecond, key)
	}
	res := r.Result(5, 0)
	require.Equal(t, 3, res.Denied)
	require.Equal(t, 6, res.Keys)
	require.Equal(t, Losses{4, 4}, res.Lost)
	require.Equal(t, 1, res.LostKeys)
	require.Equal(t, 3, res.DeniedKeys)
}

func TestForgettingAFullBucketLosesNothing(t *testing.T) {
	r := New(Config{Limit: limiter.Per(1, time.Second), MaxKeys: 1, Processes: 1})
	for i, key := range []string{"a", "b", "a"} {
		feed(r, time.Duration(i)*time.Second, key)
	}
	require.Equal(t, Losses{Forgotten: 2}, r.Result(0, 0).Lost)
}

// TestPoliciesEqualTheModels compares the policies, request by request, with
// the models with which the lab compares a real fleet.
func TestPoliciesEqualTheModels(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := limits().Draw(t, "limit")
		n := rapid.IntRange(1, 5).Draw(t, "processes")
		begin := rapid.IntRange(0, 60).Draw(t, "from")
		end := begin + rapid.IntRange(1, 60).Draw(t, "for")
		r := New(Config{Limit: l, MaxKeys: 100, Processes: n, Outage: spell(t, fmt.Sprintf("%ds-%ds", begin, end))})
		var requests []trace.Request
		at := time.Duration(0)
		for i, gap := range gaps().Draw(t, "gaps") {
			if i > 0 {
				at += time.Duration(gap%2000) * time.Millisecond
			}
			requests = append(requests, trace.Request{At: at, Process: int32((i + 1) % n), Cost: 1})
			feed(r, at, "a")
		}
		outages := []trace.Span{{From: time.Duration(begin) * time.Second, To: time.Duration(end) * time.Second}}
		all := trace.Phases(outages, 1000*time.Hour)
		want := model.Compare(l, requests, outages, 1000*time.Hour, 1000*time.Hour)
		got := r.Result(0, 0).Outage.Policies
		for policy, o := range map[int]model.Outcome{
			policyAsked: want.Asked, policyCentral: want.Central, policyFailOpen: want.FailOpen, policyFailClosed: want.FailClosed, policyPrivate: want.Private,
		} {
			phases := got[policy].PerPhase[3-len(all):] // an outage from the start has no phase before it
			require.Equal(t, o.PerPhase, phases, o.Name)
			require.Equal(t, o.Total(), got[policy].Total())
		}
	})
}

// load feeds requests of a key at random times, about rate of them a second.
func load(r *Replay, key string, from, to, rate float64, random func() float64) {
	for at := from; at < to; at += 2 * random() / rate {
		feed(r, time.Duration(at*1e9), key)
	}
}

func TestSharesKeepTheLimitThroughAnOutage(t *testing.T) {
	for _, tt := range []struct {
		limit     string
		processes int
		load      float64 // demand, in parts of the limit
	}{
		{"10/s", 10, 3},
		{"100/s burst 10", 5, 2},
		{"60/m", 100, 20},
		{"100/m", 4, 1.5},
		{"100/m", 1, 3},
	} {
		t.Run(fmt.Sprintf("%s over %d", tt.limit, tt.processes), func(t *testing.T) {
			l, err := limiter.ParseLimit(tt.limit)
			require.NoError(t, err)
			r := New(Config{Limit: l, MaxKeys: 10000, Processes: tt.processes, Outage: spell(t, "10m-20m")})
			random := newFleetRule(l, 1).random.Float64
			load(r, "a", 0, 1800, tt.load*float64(l.Rate), random)
			p := r.Result(0, 0).Outage.Policies
			for phase, want := range p[policyCentral].PerPhase {
				require.InEpsilon(t, want, p[policyLimiter].PerPhase[phase], 0.06, "phase %d", phase)
			}
		})
	}
}

func TestAloneAShareIsTheWholeBucket(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := limits().Draw(t, "limit")
		r := New(Config{Limit: l, MaxKeys: 100, Processes: 1, Outage: spell(t, "10s-1h")})
		at := time.Duration(0)
		for _, gap := range gaps().Draw(t, "gaps") {
			feed(r, at, "a")
			at += time.Duration(gap) * time.Millisecond
		}
		p := r.Result(0, 0).Outage.Policies
		require.Equal(t, p[policyCentral].PerPhase, p[policyLimiter].PerPhase)
	})
}

// TestDemandDecidesShares sends all requests of a key to one process. Its share
// should be nearly the whole limit at the beginning of the outage.
func TestDemandDecidesShares(t *testing.T) {
	l := limiter.Per(100, time.Second)
	r := New(Config{Limit: l, MaxKeys: 10000, Processes: 10, ByKey: true, Outage: spell(t, "5m+5s")})
	load(r, "a", 0, 310, 300, newFleetRule(l, 1).random.Float64)
	p := r.Result(0, 0).Outage.Policies
	require.InEpsilon(t, p[policyCentral].PerPhase[1], p[policyLimiter].PerPhase[1], 0.1)
	require.Greater(t, p[policyFailOpen].PerPhase[1], 2*p[policyLimiter].PerPhase[1])
}

// TestSharesAreKept sends all requests of a key to one process, whose share
// should last as long as the outage.
func TestSharesAreKept(t *testing.T) {
	l := limiter.Per(100, time.Second)
	r := New(Config{Limit: l, MaxKeys: 10000, Processes: 10, ByKey: true, Outage: spell(t, "5m+10m")})
	load(r, "a", 0, 900, 300, newFleetRule(l, 1).random.Float64)
	p := r.Result(0, 0).Outage.Policies
	require.InEpsilon(t, p[policyCentral].PerPhase[1], p[policyLimiter].PerPhase[1], 0.05)
}

// TestSmallSharesRise checks that small shares rise to a quarter of an equal
// one:
//
//	w(t) = 1/4N·(1 − exp(−t/60 s))
func TestSmallSharesRise(t *testing.T) {
	f := newFleetRule(limiter.Per(100, time.Second), 10)
	for minutes, want := range []float64{0, 0.025 * (1 - math.Exp(-1)), 0.025 * (1 - math.Exp(-2))} {
		s := f.begin(0, 100, 0)
		f.renew(&s, float64(minutes)*60e9)
		require.InDelta(t, 100*want, s.refill*1e9, 1e-6)
		require.InDelta(t, 100*want+1+min(5, 100*want/2), s.capacity, 1e-6)
	}
}

func TestEveryAdmissionDrawsAThreshold(t *testing.T) {
	f := newFleetRule(limiter.Per(100, time.Second), 2)
	s := f.begin(0.5, 100, 0)
	seen := make(map[float64]bool)
	for range 40 {
		require.True(t, f.take(&s, 0))
		require.True(t, s.threshold > 0 && s.threshold <= 1)
		seen[s.threshold] = true
	}
	require.Len(t, seen, 40)
}

func TestAnOutageLeavesNoDebt(t *testing.T) {
	o := newOutage(limiter.Per(10, 10*time.Minute), 10, 100, 60e9, 120e9)
	for pair := range uint64(60) { // more processes than the fleet is taken to have
		for range 20 {
			o.add(90e9, 1, pair, 0, true)
		}
	}
	k, _ := o.keys.peek(1)
	require.Less(t, o.central.level(k.limiter, 120e9), -1.0)
	o.add(120e9, 1, 0, 0, true)
	require.InDelta(t, 0, o.central.level(k.limiter, 120e9), 1e-9, "empty, but not in debt")
	require.Zero(t, o.phases[2][policyLimiter])
	o.add(181e9, 1, 0, 0, true)
	require.Equal(t, 1, o.phases[2][policyLimiter], "a minute later there is a token")
}

func TestAFleetThatSharesNothing(t *testing.T) {
	// Two processes, 4 a minute with a burst of 4. Half of the limit is 2 a minute with a burst of 2.
	r := New(Config{Limit: limiter.Per(4, time.Minute), MaxKeys: 100, Processes: 2})
	for range 12 { // 6 for each process
		feed(r, 0, "a")
	}
	for range 2 { // 1 for each process: of 2 a minute, half a token is back after 15 s, of 4 a minute a whole one
		feed(r, 15*time.Second, "a")
	}
	f := r.Result(0, 0).Fleet
	admitted := make(map[string]int)
	for _, o := range f.Outcomes {
		admitted[o.Name] = o.Allowed
	}
	require.Equal(t, 14, admitted["requested"])
	require.Equal(t, 5, admitted["one central bucket"])
	require.Equal(t, 10, admitted["private full limit"])
	require.Equal(t, 4, admitted["private limit/N"])
	require.Equal(t, 2, f.Burst)
	require.InDelta(t, 5, admitted["this limiter, never reaching Redis"], 2)
}

func TestAFleetWithAllOfAKeyAtOneProcess(t *testing.T) {
	r := New(Config{Limit: limiter.Per(4, time.Minute), MaxKeys: 100, Processes: 2, ByKey: true})
	for i := range 40 {
		for _, key := range []string{"a", "b", "c"} {
			feed(r, time.Duration(i)*time.Second, key)
		}
	}
	o := r.Result(0, 0).Fleet.Outcomes
	require.Equal(t, o[1].Allowed, o[3].Allowed, "private buckets are then as good as a central one")
	require.Less(t, o[4].Allowed, o[1].Allowed)
}

func TestTheSameLogGivesTheSameResult(t *testing.T) {
	run := func() Result {
		l := limiter.Per(10, time.Second)
		r := New(Config{Limit: l, MaxKeys: 50, Processes: 3, Outage: spell(t, "10s-20s"), Suggest: Coarse(l)})
		for i := range 5000 {
			feed(r, time.Duration(i)*7*time.Millisecond, fmt.Sprint(i*i%97))
		}
		return r.Result(10, 0.01)
	}
	first, second := run(), run()
	require.Equal(t, first, second)
}
