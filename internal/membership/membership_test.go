package membership

import (
	"slices"
	"testing"
	"time"

	"github.com/seed-e56e777b/limiter/internal/exchange"
	"github.com/seed-e56e777b/limiter/internal/mono"
)

const (
	sec = mono.Time(time.Second)
	ms  = time.Millisecond
)

func TestSizeAndScale(t *testing.T) {
	f := New(0, 100*ms, sec)
	for _, tc := range []struct {
		what           string
		reply          exchange.FleetReply
		back           bool
		at             mono.Time
		members, scale float64
	}{
		{"the first reply", exchange.FleetReply{Members: 4}, true, 2 * sec, 4, 1},
		{"long in contact", exchange.FleetReply{Members: 4, Silent: 1}, false, 9 * sec, 4, 0.75},
		{"long in contact, it was replaced", exchange.FleetReply{Members: 5, Silent: 2, Newer: 1}, false, 10 * sec, 5, 0.8},
		{"back, the others still away", exchange.FleetReply{Members: 1}, true, 20 * sec, 5, 1},
		{"they stay away", exchange.FleetReply{Members: 1}, false, 30 * sec, 1, 1},
		{"all silent but this one", exchange.FleetReply{Members: 5, Silent: 5}, false, 40 * sec, 5, 0.2},
	} {
		f.ApplyReply(&tc.reply, tc.back, 2*time.Second, 10*time.Second, tc.at) // a far server: 10 s between calls are no hang
		if f.Members() != tc.members || f.Scale() != tc.scale {
			t.Errorf("%s: %v members, scale %v, want %v and %v", tc.what, f.Members(), f.Scale(), tc.members, tc.scale)
		}
	}
}

func TestIntervalStretches(t *testing.T) {
	f := New(1000, 100*ms, sec)
	if got := f.Interval(); got != 100*ms {
		t.Errorf("1000 processes with one call: %v, want 100ms", got)
	}
	for range 100 {
		f.ObserveCalls(17)
	}
	told := func(members int) time.Duration {
		f.ApplyReply(&exchange.FleetReply{Members: members}, false, 0, 0, sec)
		return f.Interval()
	}
	if got := told(1000); got != 200*ms {
		t.Errorf("1000 processes with 17 calls, told once: %v, want twice what it was", got)
	}
	for range 4 {
		told(1000)
	}
	if got := told(1000); (got - 1700*ms).Abs() > ms {
		t.Errorf("1000 processes with 17 calls: %v, want 1.7s", got)
	}
	for range 20 {
		told(exchange.MaxMembers)
	}
	if got := f.Interval(); got != time.Minute {
		t.Errorf("as many processes as are believed: %v, want 1m", got)
	}
	if got := told(2); got != 100*ms {
		t.Errorf("told of two processes: %v, want 100ms", got)
	}
}

// TestScaleHasALeast: for any number of silent processes, a token is charged at most
// 64-fold.
func TestScaleHasALeast(t *testing.T) {
	f := New(1, 100*ms, sec)
	f.ApplyReply(&exchange.FleetReply{Members: exchange.MaxMembers, Silent: exchange.MaxMembers}, false, 0, 0, sec)
	if got := f.Scale(); got != leastScale {
		t.Errorf("Scale = %v", got)
	}
}

// A call that hung for long and then succeeded is followed by a time in which the
// fleet does not shrink, as one that failed is: the others are on their way back too.
func TestHangIsFollowedByAHold(t *testing.T) {
	f := New(4, 100*ms, sec)
	f.ApplyReply(&exchange.FleetReply{Members: 4}, true, 2*time.Second, 0, 70*sec)
	f.ApplyReply(&exchange.FleetReply{Members: 1}, false, 2*time.Second, 0, 71*sec)
	if f.Members() != 4 {
		t.Errorf("after the first contact: %v members, want 4", f.Members())
	}
	f.ApplyReply(&exchange.FleetReply{Members: 4}, false, 2*time.Second, 0, 72*sec)
	f.ApplyReply(&exchange.FleetReply{Members: 1, Silent: 1}, false, 2*time.Second, 0, 74*sec)
	if f.Members() != 4 || f.Scale() != 1 {
		t.Errorf("after a hang: %v members, scale %v, want 4 and 1", f.Members(), f.Scale())
	}
	f.ApplyReply(&exchange.FleetReply{Members: 1}, false, 2*time.Second, 0, 74*sec+sec/2)
	f.ApplyReply(&exchange.FleetReply{Members: 1}, false, 2*time.Second, 0, 75*sec)
	f.ApplyReply(&exchange.FleetReply{Members: 1}, false, 2*time.Second, 0, 76*sec)
	if f.Members() != 1 {
		t.Errorf("two seconds later: %v members, want 1", f.Members())
	}
}

// SilentAt moves on once some that were silent then are gone: not while all are members, as
// degraded ones are.
func TestSilenceBeginsAnew(t *testing.T) {
	f := New(1, 100*ms, sec)
	var got []mono.Time
	for at := mono.Time(2); at < 400; at++ {
		members, silent := 3, 1
		switch at {
		case 20, 63, 124: // one is gone, and another one joins
			members = 2
		case 150:
			silent = 0
		}
		f.ApplyReply(&exchange.FleetReply{Members: members, Silent: silent, Lost: 2}, false, 0, time.Second, at*sec)
		if at := f.SilentAt() / sec; len(got) == 0 || got[len(got)-1] != at {
			got = append(got, at)
		}
	}
	if want := []mono.Time{2, 63, 124, 0, 151}; !slices.Equal(got, want) || f.Lost() != 2 {
		t.Errorf("silent since %v, want %v; %v lost, want 2", got, want, f.Lost())
	}
}

// The fleet goes by the longest interval, so that a process with a long one is not
// taken for silent between its calls.
func TestSlowestIntervalCounts(t *testing.T) {
	f := New(1, 100*ms, sec)
	for _, tc := range []struct{ told, slowest, silence time.Duration }{
		{0, 100 * ms, time.Second}, {2 * time.Second, 2 * time.Second, 20 * time.Second}, {time.Hour, time.Minute, 10 * time.Minute},
	} {
		f.ApplyReply(&exchange.FleetReply{Members: 2, Fastest: min(tc.told, 100*ms), Slowest: tc.told}, false, 0, 0, 2*sec)
		if f.Slowest() != tc.slowest || f.Silence(0) != tc.silence {
			t.Errorf("told %v: %v, silent after %v", tc.told, f.Slowest(), f.Silence(0))
		}
	}
}
