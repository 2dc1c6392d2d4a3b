package main

import (
	"bytes"
	"encoding/json"
	"io"
	"math"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-e56e777b/limiter/internal/servertest"
	"github.com/seed-e56e777b/limiter/internal/servertest/redisserver"
)

func TestQuantileInterpolates(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		values      []float64
		share, want float64
	}{
		{[]float64{7}, 0.5, 7},
		{[]float64{3, 1, 2}, 0.5, 2},
		{[]float64{4, 1, 2, 3}, 0.5, 2.5},
		{[]float64{5, 1, 2, 3, 4}, 0.25, 2},
		{[]float64{1, 2}, 1, 2},
	} {
		if got := quantile(tt.values, tt.share); got != tt.want {
			t.Errorf("quantile(%v, %v) = %v, want %v", tt.values, tt.share, got, tt.want)
		}
	}
	if got := quantile(nil, 0.5); !math.IsNaN(got) {
		t.Errorf("quantile of nothing = %v, want NaN", got)
	}
}

const output = `goos: linux
cpu: Some CPU
BenchmarkAllow/keys=1/by=limiter/callers=1-2         	 1000000	        60.0 ns/op	       0 B/op	       0 allocs/op
BenchmarkAllow/keys=1/by=limiter/callers=all-2       	 1000000	        70.0 ns/op	       0 B/op	       0 allocs/op
BenchmarkAllow/keys=1/by=x-time-rate/callers=1-2     	 1000000	       100.0 ns/op	       0 B/op	       0 allocs/op
BenchmarkTail/keys=1e5/by=limiter/callers=1-2        	 1000000	       100.0 ns/op	      2000 p99.99-ns
BenchmarkTail/keys=1e5/by=limiter-local/callers=1-2  	 1000000	       100.0 ns/op	       900.0 p99.99-ns
BenchmarkTail/keys=1e5/by=clock/callers=1-2          	 1000000	       100.0 ns/op	      1500 p99.99-ns
PASS
`

func read(t *testing.T, outputs ...string) *results {
	r := newResults()
	for _, o := range outputs {
		n, err := r.read([]byte(o))
		require.NoError(t, err)
		require.Equal(t, strings.Count(o, "\nBenchmark"), n)
	}
	return r
}

func TestTurnsAddUp(t *testing.T) {
	t.Parallel()
	r := read(t, output, strings.ReplaceAll(output, "60.0", "80.0"))
	for s, want := range map[series]float64{
		figure(oneKey, ours, one, ns):     70,
		figure(oneKey, bare, one, ns):     100,
		figure(oneKey, ours, all, ns):     70,
		figure(oneKey, ours, one, "B/op"): 0,
		figure(tail, ours, one, p9999):    2000,
		figure(tail, local, one, p9999):   900,
	} {
		if got := r.median(s); got != want {
			t.Errorf("median of %v = %v, want %v", s, got, want)
		}
	}
	if r.config["cpu"] != "Some CPU" {
		t.Errorf("configuration %v", r.config)
	}
}

func TestTargetsAreMetMissedOrNotMeasured(t *testing.T) {
	t.Parallel()
	p := &page{results: read(t, output), fleets: make([]compared, len(scenarios))}
	rows := p.Targets()
	for i, want := range map[int]row{
		0:  {Measured: "0.60 ×: 60 ns to 100 ns", Met: "yes"},
		1:  {Measured: "not measured", Met: "–"},
		15: {Measured: "2.22 ×: 2 µs to 900 ns", Met: "**no**"},
	} {
		if got := rows[i]; got.Measured != want.Measured || got.Met != want.Met {
			t.Errorf("%s: %q, %q, want %q, %q", got.What, got.Measured, got.Met, want.Measured, want.Met)
		}
	}
}

func TestFractionsOfRedisCPU(t *testing.T) {
	t.Parallel()
	theirs := usage{Decisions: 1_000_000, Redis: 15 * time.Second}
	p := &page{results: newResults(), fleets: []compared{
		{Ours: usage{Decisions: 2_000_000, Redis: time.Second}, Theirs: theirs},
		{Ours: usage{Decisions: 1_000_000, Redis: 1500 * time.Millisecond}, Theirs: theirs},
	}}
	if got := ofRedis(0, 25).row(p); got.Measured != "1/30" || got.Met != "yes" {
		t.Errorf("a thirtieth: %+v", got)
	}
	if got := ofRedis(1, 15).row(p); got.Measured != "1/10" || got.Met != "**no**" {
		t.Errorf("a tenth: %+v", got)
	}
}

// The template asks for figures by name: all have to be planned, and all those
// that are measured shown.
func TestPageShowsWhatWasMeasured(t *testing.T) {
	t.Parallel()
	p := &page{results: read(t, output), fleets: make([]compared, len(scenarios))}
	var text bytes.Buffer
	require.NoError(t, p.write(&text))
	for _, want := range []string{
		"| **limiter**, exchanging with Redis | 60 ns ± 0 % | 70 ns ± 0 % |",
		"| one hot key, 1 goroutine, to `rate.Limiter` | ≤ 0.65 × | 0.60 ×: 60 ns to 100 ns | yes |",
		"| the clock alone, beside the same exchanges | – | – | – | 1.5 µs |",
	} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %q in\n%s", want, text.String())
		}
	}
	_, err := p.Figure("Allow/keys=7", ours, one, ns)
	require.ErrorContains(t, err, "no benchmark")
}

func TestPatternsMatchOneSubject(t *testing.T) {
	t.Parallel()
	pattern := strings.Split(job{bench: by(fewKeys, ours)}.pattern(), "/")
	for name, want := range map[string]bool{
		"BenchmarkAllow/keys=1e4/dist=zipf/by=limiter":       true,
		"BenchmarkAllow/keys=1e4/dist=zipf/by=limiter-local": false,
		"BenchmarkAllow/keys=1e4/dist=zipf/by=go-limiter":    false,
	} {
		got := true
		for i, part := range strings.Split(name, "/") {
			got = got && regexp.MustCompile(pattern[i]).MatchString(part)
		}
		if got != want {
			t.Errorf("%q matches %q: %v, want %v", pattern, name, got, want)
		}
	}
}

func TestEveryJobRunsInTheFirstTurn(t *testing.T) {
	t.Parallel()
	jobs := plan()
	if got := len(inTurn(jobs, 0)); got != len(jobs) {
		t.Errorf("%d of %d jobs in the first turn", got, len(jobs))
	}
	if got := len(inTurn(jobs, 1)); got >= len(jobs) || got == 0 {
		t.Errorf("%d of %d jobs in the second turn, want fewer", got, len(jobs))
	}
}

func TestRawFiguresTellOfTheMachineOnce(t *testing.T) {
	t.Parallel()
	got := string(onceEach([]byte(output + output)))
	want := strings.TrimSuffix(output, "PASS\n") + output[strings.Index(output, "Benchmark"):strings.Index(output, "PASS")]
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestNumbers(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ got, want string }{
		{duration(87.4), "87.4 ns"},
		{duration(999), "999 ns"},
		{duration(1234), "1.23 µs"},
		{duration(45.6e6), "45.6 ms"},
		{duration(2e9), "2 s"},
		{trimmed(0.0123), "0.0123"},
		{trimmed(586.4), "586"},
		{thousands(999), "999"},
		{thousands(1234567), "1,234,567"},
		{redisVersion("Redis server v=7.0.15 sha=0"), "7.0.15"},
	} {
		if tt.got != tt.want {
			t.Errorf("%q, want %q", tt.got, tt.want)
		}
	}
}

func TestVersionsAreThoseOfAllPeers(t *testing.T) {
	t.Parallel()
	list, err := versions(t.Context())
	require.NoError(t, err)
	found := map[string]string{}
	for _, m := range list {
		found[m.Path] = m.Version
	}
	for _, p := range slices.Concat(peers, redisPeers) {
		if p.module != "" && !strings.HasPrefix(found[p.module], "v") {
			t.Errorf("%s: version %q of %s", p.Label, found[p.module], p.module)
		}
	}
}

func TestBadOptionsAreRefused(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"-turns", "0"}, {"more"}} {
		if _, err := parseOptions(args); err == nil {
			t.Errorf("%v: no error", args)
		}
	}
}

// A worker decides from its start, says how often when asked, and ends with its input.
func TestWorkersCount(t *testing.T) {
	t.Parallel()
	server := servertest.Server(t, redisserver.Options{})
	for _, name := range []string{ours, redisRate} {
		for _, order := range []string{"zipf", "each"} {
			t.Run(name+"/"+order, func(t *testing.T) {
				t.Parallel()
				spec, err := json.Marshal(workerJob{Redis: server.Addr(), By: name, Order: order, Keys: 100, Rate: 10_000})
				require.NoError(t, err)
				in, ask := io.Pipe()
				answers, out := io.Pipe()
				ended := make(chan error, 1)
				go func() { ended <- work(t.Context(), string(spec), in, out) }()
				waitForDecisions(t, ask, json.NewDecoder(answers))
				require.NoError(t, ask.Close())
				require.NoError(t, <-ended)
			})
		}
	}
}

func waitForDecisions(t *testing.T, ask io.Writer, answers *json.Decoder) {
	for {
		_, err := io.WriteString(ask, "\n")
		require.NoError(t, err)
		var c workerCount
		require.NoError(t, answers.Decode(&c))
		if c.Allowed > 100 {
			require.GreaterOrEqual(t, c.Decisions, c.Allowed)
			return
		}
	}
}

func TestWorkerRefusesWhatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	for _, spec := range []string{"{", `{"By": "nobody"}`} {
		if err := work(t.Context(), spec, strings.NewReader(""), os.Stdout); err == nil {
			t.Errorf("%s: no error", spec)
		}
	}
}
