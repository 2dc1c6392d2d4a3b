package faultmatrix

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// fine is a run of which nothing is to be said.
func fine() *Measured {
	quick := FleetPhase{Ratio: 1, Allow: tailOf([]time.Duration{100 * time.Microsecond})}
	begin := time.Unix(0, 0)
	return &Measured{
		Fault: &Fault{Lasts: lasting, Want: Want{Outage: true, Back: time.Second, Says: "password"}},
		Kind:  Tuned, Began: begin, Ended: begin.Add(lasting), Lasted: 10 * time.Second,
		Phases: map[string]FleetPhase{before: quick, during: quick, after: quick},
		Back:   500 * time.Millisecond, Degraded: true, Drained: true, Admitted: 1000, Charged: 1000.02, Rate: 90,
		Lines: 2, Changes: 2, Events: []Event{{Log: "check the password"}},
	}
}

// TestJudge: each requirement is found broken where it is, and nowhere else.
func TestJudge(t *testing.T) {
	slow := func(d time.Duration) FleetPhase { return FleetPhase{Ratio: 1, Allow: tailOf([]time.Duration{d})} }
	for name, c := range map[string]struct {
		change func(*Measured)
		failed string
	}{
		"fine":                   {func(*Measured) {}, ""},
		"a token lost":           {func(m *Measured) { m.Charged-- }, "nothing lost"},
		"a token doubled":        {func(m *Measured) { m.Charged++ }, "nothing doubled"},
		"lost with Redis's data": {func(m *Measured) { m.Charged -= 20; m.Fault.Want.Loses = 1 }, ""},
		"more lost than that":    {func(m *Measured) { m.Charged -= 40; m.Fault.Want.Loses = 1 }, "nothing lost"},
		"not drained":            {func(m *Measured) { m.Drained = false }, "all is exchanged in the end"},
		"never back":             {func(m *Measured) { m.Back = -1; m.Kind = Default }, "Synced again"},
		"late":                   {func(m *Measured) { m.Back = 2 * time.Second }, "Synced again in time"},
		"late, as measured":      {func(m *Measured) { m.Back = 2 * time.Second; m.Kind = Default }, ""},
		"unseen":                 {func(m *Measured) { m.Degraded = false }, "the outage was seen"},
		"slow":                   {func(m *Measured) { m.Phases[during] = slow(2 * time.Millisecond) }, "Allow as fast as ever"},
		"slow without fault too": {func(m *Measured) {
			m.Phases[during], m.Phases[before] = slow(2*time.Millisecond), slow(time.Millisecond)
		}, ""},
		"chatty":                   {func(m *Measured) { m.Lines = 3 }, "a line for each change, one a minute"},
		"chatty from the start":    {func(m *Measured) { m.Lines = 3; m.Fault.Start = true }, ""},
		"chatty for a minute":      {func(m *Measured) { m.Lines = 3; m.Lasted = time.Minute }, ""},
		"too much":                 {func(m *Measured) { m.Phases[during] = FleetPhase{Ratio: 1.2} }, "the limit is kept"},
		"too little":               {func(m *Measured) { m.Phases[during] = FleetPhase{Ratio: 0.9} }, "the limit is kept"},
		"too little without cause": {func(m *Measured) { m.Phases[during] = FleetPhase{Ratio: 0.9}; m.Fault.Want.Outage = false }, ""},
		"a pause afterwards":       {func(m *Measured) { m.Phases[after] = FleetPhase{Ratio: 0.5} }, "neither a burst nor a pause after it"},
		"nothing said":             {func(m *Measured) { m.Events = nil }, "the log says what to do"},
	} {
		m := fine()
		c.change(m)
		failed := m.Failed()
		names := make([]string, len(failed))
		for i, f := range failed {
			names[i] = f.What
		}
		if c.failed == "" && len(names) > 0 || c.failed != "" && !slices.Contains(names, c.failed) {
			t.Errorf("%s: failed %q, want %q", name, names, c.failed)
		}
	}
}

// TestReturnIsThatOfTheLastProcess: a process that was back and fell out again
// is back when it is so for good.
func TestReturnIsThatOfTheLastProcess(t *testing.T) {
	m := fine()
	m.Back, m.Events = 0, nil
	at := func(d time.Duration, state string) Event { return Event{At: m.Ended.Add(d), State: state} }
	p := &process{events: []Event{
		at(-time.Minute, "synced"), at(-time.Second, "degraded"), at(100*time.Millisecond, "synced"),
		at(200*time.Millisecond, "degraded"), at(700*time.Millisecond, "synced"),
	}}
	m.observeStates(p)
	m.observeStates(&process{events: []Event{at(-time.Minute, "synced")}})
	if m.Back != 700*time.Millisecond || m.Changes != 4 {
		t.Errorf("back after %v, %d changes; want 700ms, 4", m.Back, m.Changes)
	}
	if m.Degraded {
		t.Error("the second process never was degraded")
	}
	m.Fault.Want.FromIt = true
	m.observeStates(p)
	if want := lasting + 700*time.Millisecond; m.Back != want {
		t.Errorf("back %v after the begin, want %v", m.Back, want)
	}
	m.observeStates(&process{events: []Event{at(0, "degraded")}})
	if m.Back >= 0 {
		t.Errorf("back after %v, want never", m.Back)
	}
}

func TestTailHasTheLongest(t *testing.T) {
	var d []time.Duration
	for i := range 30000 {
		d = append(d, time.Duration(i))
	}
	tail := tailOf(d[:10000]).merge(tailOf(d[10000:]))
	if tail.Of != 30000 || tail.Slowest() != 29999 || tail.P9999() != 29996 {
		t.Errorf("of %d: slowest %d, 99.99th percentile %d; want 30000, 29999, 29996", tail.Of, tail.Slowest(), tail.P9999())
	}
}

// TestRowTellsWhatFailed: the table has each requirement that was not met.
func TestRowTellsWhatFailed(t *testing.T) {
	m := fine()
	if row := m.row(); !strings.HasSuffix(row, "| – |") {
		t.Errorf("of a fine run: %s", row)
	}
	m.Charged -= 3
	if row := m.row(); !strings.Contains(row, "3 / 0 of 1000") || !strings.Contains(row, "**nothing lost**: 3.0 tokens lost") {
		t.Errorf("of three tokens lost: %s", row)
	}
}
