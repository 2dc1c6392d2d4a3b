package report

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/model"
	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/trace"
)

// result is a run of 9 s with an outage in its middle third, in which the fleet
// admitted what is given while one central bucket admitted 1000 in each phase.
func result(before, outage, after int) model.Result {
	phases := func(n ...int) []int { return n }
	at := func(s int) time.Duration { return time.Duration(s) * time.Second }
	r := model.Result{
		Limit:      limiter.Limit{Rate: 1000, Burst: 100},
		End:        at(9),
		Bin:        at(3),
		Phases:     trace.Phases([]trace.Span{{From: at(3), To: at(6)}}, at(9)),
		Asked:      model.Outcome{Name: "requested", PerPhase: phases(3000, 3000, 3000)},
		Central:    model.Outcome{Name: "one central bucket", PerPhase: phases(1000, 1000, 1000)},
		Measured:   model.Outcome{Name: "this limiter", PerPhase: phases(before, outage, after)},
		FailOpen:   model.Outcome{Name: "fail open", PerPhase: phases(1000, 3000, 1010)},
		FailClosed: model.Outcome{Name: "fail closed", PerPhase: phases(1000, 0, 1010)},
		Private:    model.Outcome{Name: "private full limit", PerPhase: phases(1000, 2700, 1010)},
	}
	for _, o := range []*model.Outcome{&r.Asked, &r.Central, &r.Measured, &r.FailOpen, &r.FailClosed, &r.Private} {
		o.PerBin = append(phases(o.PerPhase...), 0)
	}
	return r
}

func TestTable(t *testing.T) {
	var b strings.Builder
	Table(&b, result(1001, 950, 1234567))
	require.Equal(t, `
Admitted under 1000/s burst 100, and as a ratio to one central bucket fed the same requests:

                                  before              outage               after           whole run
                             0.0 – 3.0 s         3.0 – 6.0 s         6.0 – 9.0 s
requested                   3,000  3.000        3,000  3.000        3,000  3.000        9,000  3.000
one central bucket          1,000  1.000        1,000  1.000        1,000  1.000        3,000  1.000
this limiter                1,001  1.001          950  0.950    1,234,567 1234.567    1,236,518 412.173
fail open                   1,000  1.000        3,000  3.000        1,010  1.010        5,010  1.670
fail closed                 1,000  1.000            0  0.000        1,010  1.010        2,010  0.670
private full limit          1,000  1.000        2,700  2.700        1,010  1.010        4,710  1.570

`, b.String())
}

func TestTableOfWaitingCallers(t *testing.T) {
	var b strings.Builder
	r := result(1001, 950, 1000)
	r.Asked.Name = "without a limit"
	r.Waiting = &model.Waiting{PerPhase: []float64{85, 87.25, 9.96}, Whole: 60.7, Workers: 100}
	Table(&b, r)
	require.Equal(t, `
Admitted under 1000/s burst 100, and as a ratio to one central bucket with as many workers:

                                  before              outage               after           whole run
                             0.0 – 3.0 s         3.0 – 6.0 s         6.0 – 9.0 s
without a limit             3,000  3.000        3,000  3.000        3,000  3.000        9,000  3.000
one central bucket          1,000  1.000        1,000  1.000        1,000  1.000        3,000  1.000
this limiter                1,001  1.001          950  0.950        1,000  1.000        2,951  0.984
fail open                   1,000  1.000        3,000  3.000        1,010  1.010        5,010  1.670
fail closed                 1,000  1.000            0  0.000        1,010  1.010        2,010  0.670
private full limit          1,000  1.000        2,700  2.700        1,010  1.010        4,710  1.570
callers waiting              85.0                87.2                10.0                60.7

Callers waiting: for this limiter, the mean of the phase. Each of 100 workers waits
for a token, works for 10ms, and waits again. Those of one central bucket queue too.
The last three ways have no Wait: their workers call Allow, and pause for 10ms where
they are denied.

`, b.String())
}

func TestVerdict(t *testing.T) {
	for _, tt := range []struct {
		before, outage, after int
		failed                []string
	}{
		{1000, 1000, 1000, nil},
		{900, 1100, 1000, nil},
		{1000, 1101, 1000, []string{"outage"}},
		{899, 1000, 3000, []string{"before", "after"}},
		{1000, 0, 1000, []string{"outage"}},
	} {
		var b strings.Builder
		ok := Verdict(&b, result(tt.before, tt.outage, tt.after))
		if ok != (tt.failed == nil) {
			t.Errorf("verdict on %v is %v", tt, ok)
		}
		require.Equal(t, ok, strings.HasPrefix(b.String(), "PASSED"))
		require.Equal(t, len(tt.failed), strings.Count(b.String(), "FAILED"))
		for _, phase := range tt.failed {
			require.Contains(t, b.String(), `FAILED in the phase "`+phase+`"`)
		}
	}
}

func TestVerdictWhereNothingWasAdmitted(t *testing.T) {
	r := result(1000, 0, 1000)
	r.Central.PerPhase[1] = 0
	require.True(t, Verdict(&strings.Builder{}, r))
	r.Measured.PerPhase[1] = 1
	require.False(t, Verdict(&strings.Builder{}, r))
}

func TestPrinter(t *testing.T) {
	var b strings.Builder
	p := NewPrinter(&b, 2, false)
	p.Note(Note{At: -time.Second, Text: "process 1: hello"})
	p.Second(Second{
		End: time.Second, Asked: 2981, Admitted: []int{1000, 120},
		States: []string{"synced", "synced"}, Ages: []time.Duration{5 * time.Millisecond, 70 * time.Millisecond},
	})
	p.Note(Note{At: 1200 * time.Millisecond, Text: "Redis is stopped"})
	p.Second(Second{
		End: 2 * time.Second, Asked: 10, Admitted: []int{1, 2},
		States: []string{"synced", "degraded"}, Ages: []time.Duration{5 * time.Millisecond, 1500 * time.Millisecond},
	})
	p.Second(Second{
		End: 3 * time.Second, Asked: 10, Admitted: []int{1, 2},
		States: []string{"connecting", "connecting"}, Ages: []time.Duration{-1, time.Hour},
	})
	require.Equal(t, `  start   process 1: hello
   time  requests  admitted  by process   last exchange  state
    1 s     2,981     1,120   1000   120      70 ms ago  synced
 1.20 s   Redis is stopped
    2 s        10         3      1     2      1.5 s ago  1 degraded, 1 synced
    3 s        10         3      1     2          never  connecting
`, b.String())
}

func TestPrinterOfWaitingCallers(t *testing.T) {
	var b strings.Builder
	p := NewPrinter(&b, 2, true)
	p.Second(Second{
		End: time.Second, Waiting: 87, Admitted: []int{1000, 120},
		States: []string{"synced", "synced"}, Ages: []time.Duration{5 * time.Millisecond, 70 * time.Millisecond},
	})
	require.Equal(t, `   time   waiting  admitted  by process   last exchange  state
    1 s        87     1,120   1000   120      70 ms ago  synced
`, b.String())
}

func TestPrinterOfALargeFleet(t *testing.T) {
	require.Equal(t, "    1     2     3     4     5     6     7     8    19 by 2 more", byProcess([]int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}))
}

func TestIntro(t *testing.T) {
	var b strings.Builder
	Intro(&b, Facts{
		Limit: limiter.Limit{Rate: 1000, Burst: 100}, Rates: []float64{2000, 1000}, For: 9 * time.Second,
		Store: "a store", Prefix: "p", Dies: "dies", Returns: "returns",
		Outage: trace.Span{From: 3 * time.Second, To: 6 * time.Second},
	})
	require.Equal(t, `2 limiters, each with its own Redis client, share 1000/s burst 100.
They get 3000 requests a second: 2000 + 1000.
Redis: a store; every key there begins with "p".
After 3.0 s it dies, after 6.0 s it returns; the run ends after 9.0 s.

`, b.String())
}

func TestIntroOfWaitingCallers(t *testing.T) {
	var b strings.Builder
	Intro(&b, Facts{Limit: limiter.Limit{Rate: 1000, Burst: 100}, Rates: []float64{2000, 1000}, Workers: 20})
	require.Contains(t, b.String(), "\nEach has 20 workers: a worker waits for a token, works for 10ms, and waits again.\n")
	require.NotContains(t, b.String(), "requested")
}

func TestThousands(t *testing.T) {
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 123456: "123,456", 1234567: "1,234,567"} {
		require.Equal(t, want, Thousands(n))
	}
}
