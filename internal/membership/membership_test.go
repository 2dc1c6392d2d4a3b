package membership

import (
	"testing"
	"time"

	"github.com/seed-e56e777b/limiter/internal/exchange"
)

const (
	sec = int64(time.Second)
	ms  = time.Millisecond
)

func TestSizeAndScale(t *testing.T) {
	f := New(0, 100*ms, sec)
	for _, tc := range []struct {
		what           string
		reply          exchange.FleetReply
		back           bool
		at             int64
		members, scale float64
	}{
		{"the first reply", exchange.FleetReply{Members: 4}, true, 2 * sec, 4, 1},
		{"long in contact", exchange.FleetReply{Members: 4, Silent: 1}, false, 9 * sec, 4, 0.75},
		{"back, the others still away", exchange.FleetReply{Members: 1}, true, 20 * sec, 4, 1},
		{"they stay away", exchange.FleetReply{Members: 1}, false, 30 * sec, 1, 1},
		{"all silent but this one", exchange.FleetReply{Members: 5, Silent: 5}, false, 40 * sec, 5, 0.2},
	} {
		f.Joined(&tc.reply, tc.back, 2*time.Second, tc.at)
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
		f.Called(17)
	}
	told := func(members int) time.Duration {
		f.Joined(&exchange.FleetReply{Members: members}, false, 0, sec)
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

// TestScaleHasALeast: whatever is said of the silent, a token is not charged
// more than 64-fold.
func TestScaleHasALeast(t *testing.T) {
	f := New(1, 100*ms, sec)
	f.Joined(&exchange.FleetReply{Members: exchange.MaxMembers, Silent: exchange.MaxMembers}, false, 0, sec)
	if got := f.Scale(); got != leastScale {
		t.Errorf("Scale = %v", got)
	}
}

func TestBacklog(t *testing.T) {
	for _, tc := range []struct {
		what     string
		from, to time.Duration // of the gap, ago; 0: none
		first    int64
		ceiling  bool
		off      time.Duration
	}{
		{"nobody had contact", 30 * time.Second, 0, 71 * sec, true, 0},
		{"only this process had none", 0, 0, 71 * sec, false, 28 * time.Second / 4},
		{"nobody had for the smaller part", 10 * time.Second, 0, 71 * sec, false, 28 * time.Second / 4},
		{"usage of before it was cut off", 0, 0, 60 * sec, false, 29 * time.Second / 4},
		{"usage of since it is back", 30 * time.Second, 0, 100 * sec, false, 0},
	} {
		f := New(4, 100*ms, sec)
		f.Joined(&exchange.FleetReply{Members: 4}, true, 0, 70*sec)
		f.Joined(&exchange.FleetReply{Members: 4, GapBegin: tc.from, GapEnd: tc.to}, true, 0, 100*sec)
		if ceiling, off := f.Backlog(tc.first, 0); ceiling != tc.ceiling || off != tc.off {
			t.Errorf("%s: %v, %v off, want %v, %v off", tc.what, ceiling, off, tc.ceiling, tc.off)
		}
	}
}

// A call that hung for long and then succeeded ends a spell without contact as
// one that failed does: else what was run up meanwhile, charged from when it
// arrives, would put every key into debt.
func TestHangIsASpellWithoutContact(t *testing.T) {
	for _, tc := range []struct {
		what    string
		gap     time.Duration
		ceiling bool
	}{
		{"nobody had contact", 3 * time.Second, true},
		{"others had", 0, false},
	} {
		f := New(4, 100*ms, sec)
		f.Joined(&exchange.FleetReply{Members: 4}, true, 0, 70*sec)
		f.Joined(&exchange.FleetReply{Members: 4}, false, 0, 70*sec+1)
		f.Joined(&exchange.FleetReply{Members: 4, GapBegin: tc.gap}, false, 0, 73*sec)
		f.Joined(&exchange.FleetReply{Members: 4, GapBegin: tc.gap + 100*ms, GapEnd: 100 * ms}, false, 0, 73*sec+sec/10)
		if ceiling, _ := f.Backlog(70*sec+2, 0); ceiling != tc.ceiling {
			t.Errorf("%s: ceiling %v, want %v", tc.what, ceiling, tc.ceiling)
		}
	}
}
