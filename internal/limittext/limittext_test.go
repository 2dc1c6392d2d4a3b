package limittext

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func per(n int, d time.Duration) float64 { return float64(n) / d.Seconds() }

// TestFormatIsAsAPersonWrites: the plainest text, in the units of the limit.
func TestFormatIsAsAPersonWrites(t *testing.T) {
	for _, tc := range []struct {
		rate  float64
		burst int
		want  string
	}{
		{per(100, time.Minute), 100, "100/m"},
		{per(100, 15*time.Minute), 100, "100/15m"},
		{per(10, time.Hour), 10, "10/h"},
		{per(20, time.Second), 20, "20/s"},
		{20, 5, "20/s burst 5"},
		{10, 50, "10/s burst 50"},
		{10, 3000, "3000/5m"},
		{per(100, time.Minute), 1, "100/m burst 1"},
		{per(100, time.Minute), 20, "100/m burst 20"},
		{per(10, time.Hour), 2, "10/h burst 2"},
		{per(5, 24*time.Hour), 1, "5/d burst 1"},
		{per(100, 24*time.Hour), 100, "100/d"},
		{per(100, 48*time.Hour), 100, "100/2d"},
		{per(100, 36*time.Hour), 100, "100/36h"},
		{per(100, 90*time.Second), 100, "100/90s"},
		{per(5, 10*time.Second), 5, "5/10s"},
		{per(3, 700*time.Millisecond), 3, "3/700ms"},
		{per(1, 7*time.Second), 3, "3/21s"},
		{per(1, 7*time.Second), 30, "30/210s"},
		{per(1, 7*time.Second), math.MaxInt, "1/7s burst 9223372036854775807"},
		{per(7, 13*time.Second), 3, "7/13s burst 3"},
		{per(7, 1300*time.Millisecond), 3, "7/1300ms burst 3"},
		{per(1, time.Nanosecond), 1, "1/ns"},
		{per(7, time.Duration(math.MaxInt64)), 7, "7.589415207398531e-10/s burst 7"},
		{per(7, time.Duration(math.MaxInt64/2)), 7, "7/4611686018427388us"},
		{math.Pi, 10, "3.141592653589793/s burst 10"},
		{1e300, 1, "1e+300/s burst 1"},
		{5e-324, 1, "5e-324/s burst 1"},
		{0, 0, "0/s burst 0"},
		{0, 5, "0/s burst 5"},
		{5, 0, "5/s burst 0"},
		{-1, 5, "-1/s burst 5"},
		{math.NaN(), 5, "NaN/s burst 5"},
		{math.Inf(1), 5, "+Inf/s burst 5"},
		{1, math.MaxInt, "1/s burst 9223372036854775807"},
		{infinite, 0, "unlimited"},
		{infinite, 7, "unlimited burst 7"},
	} {
		if got := Format(tc.rate, tc.burst); got != tc.want {
			t.Errorf("%v and %d: %q, want %q", tc.rate, tc.burst, got, tc.want)
		}
	}
}

// TestParseReadsUnits: every unit by each of its names, with a number and without.
func TestParseReadsUnits(t *testing.T) {
	for names, unit := range map[string]time.Duration{
		"ns": 1, "us µs": time.Microsecond, "ms": time.Millisecond, "s sec second seconds": time.Second,
		"m min minute minutes": time.Minute, "h hour hours": time.Hour, "d day days": day,
	} {
		for name := range strings.FieldsSeq(names) {
			for count, times := range map[string]float64{"": 1, "1": 1, "15": 15, "1.5": 1.5, ".5": .5} {
				if unit == 1 && times != math.Trunc(times) {
					continue
				}
				rate, burst, err := Parse("30/" + count + name)
				require.NoError(t, err)
				require.Equal(t, 30, burst)
				if want := per(30, time.Duration(times*float64(unit))); rate != want {
					t.Errorf("30/%s%s: %v, want %v", count, name, rate, want)
				}
			}
		}
	}
	rate, _, err := Parse("100/1h30m")
	require.NoError(t, err)
	if want := per(100, 90*time.Minute); rate != want {
		t.Errorf("100/1h30m: %v, want %v", rate, want)
	}
}

// TestParseNamesTheFault: an error has the word that is not understood.
func TestParseNamesTheFault(t *testing.T) {
	for s, want := range map[string]string{
		"":                "not understood",
		"often":           "no time given",
		"10/s 5":          "not understood",
		"10/s bursts 5":   "not understood",
		"10/s burst":      "not understood",
		"10/s burst many": `"many" is no burst`,
		"unlimited burst": "not understood",
		"ten/s":           `"ten" is no number`,
		"10/":             `"" is no time`,
		"10/fortnight":    `"fortnight" is no time`,
		"10/-1m":          `"-1m" is no time`,
		"10/0d":           `"0d" is no time`,
		"10/1d5h":         `"1d5h" is no time`,
		"10/200000d":      `"200000d" is no time`,
		"10/1e3s":         `"1e3s" is no time`,
		"1.5/s":           `"1.5" is no whole number from 1, and no burst is given`,
	} {
		if _, _, err := Parse(s); err == nil || err.Error() != want {
			t.Errorf("%q: %v, want %s", s, err, want)
		}
	}
}

// TestParseGivesBackExactly: for every rate, bit by bit, and every burst.
func TestParseGivesBackExactly(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		burst := rapid.OneOf(rapid.IntRange(0, 1000), rapid.Int()).Draw(t, "burst")
		n := rapid.OneOf(rapid.IntRange(1, 1000), rapid.IntRange(1, math.MaxInt)).Draw(t, "n")
		nanos := rapid.Int64Range(1, math.MaxInt64).Draw(t, "ns")
		unit := rapid.SampledFrom(units).Draw(t, "unit").time
		count := time.Duration(rapid.Int64Range(1, 106751).Draw(t, "count"))
		rate := rapid.OneOf(
			rapid.Just(per(n, count*unit)),
			rapid.Just(per(n, time.Duration(nanos))),
			rapid.Just(1/time.Duration(nanos).Seconds()),
			rapid.Float64Range(0, math.MaxFloat64),
			rapid.Map(rapid.Uint64(), math.Float64frombits),
		).Draw(t, "rate")
		if math.IsNaN(rate) {
			return
		}
		if rapid.Bool().Draw(t, "burst of n") {
			burst = n
		}
		text := Format(rate, burst)
		gotRate, gotBurst, err := Parse(text)
		if err != nil || math.Float64bits(gotRate) != math.Float64bits(rate) || gotBurst != burst {
			t.Fatalf("%v and %d: %q is read as %v and %d, %v", rate, burst, text, gotRate, gotBurst, err)
		}
	})
}
