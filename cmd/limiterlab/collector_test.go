package main

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/report"
	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/trace"
	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/worker"
)

// transcript is an observer that remembers.
type transcript []string

func (tr *transcript) Second(s report.Second) {
	line := fmt.Sprintf("%v: asked %d, admitted %v, %v", s.End, s.Asked, s.Admitted, s.States)
	if s.Waiting > 0 {
		line += fmt.Sprintf(", %d waiting", s.Waiting)
	}
	*tr = append(*tr, line)
}

func (tr *transcript) Note(n report.Note) { *tr = append(*tr, fmt.Sprintf("%v: %s", n.At, n.Text)) }

func ms(n int) time.Duration { return time.Duration(n) * time.Millisecond }

// asked is one admitted request of a process at each instant in milliseconds.
func asked(process int, at ...int) []trace.Request {
	var requests []trace.Request
	for _, t := range at {
		requests = append(requests, trace.Request{At: ms(t), Process: int32(process), Cost: 1, Admitted: true})
	}
	return requests
}

// TestCollectorShowsInTheOrderOfTime has two workers that report unevenly.
func TestCollectorShowsInTheOrderOfTime(t *testing.T) {
	epoch := time.Now()
	tr := &transcript{}
	c := newCollector(2, epoch, tr)
	say := func(process, through int, state string, requests []trace.Request, notes ...worker.Note) {
		c.add(worker.Report{Process: process, Through: ms(through), Status: worker.Status{State: state}, Requests: requests, Notes: notes})
	}
	note := func(at int, text string) worker.Note {
		return worker.Note{Time: epoch.Add(ms(at)), Text: text}
	}

	say(0, 0, "synced", nil, note(-500, "hello"))
	say(1, 0, "synced", nil)
	say(0, 2500, "lost", asked(0, 100, 1100, 1200, 2400), note(2200, "lost"))
	require.Len(t, *tr, 1, "the other may have something earlier to say")
	c.note(report.Note{At: ms(1500), Text: "Redis is stopped"})
	say(1, 900, "synced", asked(1, 800), note(850, "lost too"))
	say(1, 1950, "lost", asked(1, 1900))
	say(1, 3000, "lost", nil)
	say(0, 3000, "lost", nil)

	require.Equal(t, transcript{
		"-500ms: process 1: hello",
		"850ms: process 2: lost too",
		"1s: asked 2, admitted [1 1], [synced synced]",
		"1.5s: Redis is stopped",
		"2s: asked 3, admitted [2 1], [synced lost]",
		"2.2s: process 1: lost",
		"3s: asked 1, admitted [1 0], [lost lost]",
	}, *tr)
	require.Equal(t, 3*time.Second, c.end())
	require.Len(t, c.requests, 6)
}

// TestCollectorDoesNotWaitForThoseThatHaveEnded has one of two workers end in
// the first second.
func TestCollectorDoesNotWaitForThoseThatHaveEnded(t *testing.T) {
	epoch := time.Now()
	tr := &transcript{}
	c := newCollector(2, epoch, tr)
	for _, r := range []worker.Report{
		{Process: 1, Through: ms(300), Requests: asked(1, 100), Status: worker.Status{State: "synced"}},
		{Process: 1, Through: ms(300), Ended: true, Status: worker.Status{State: "closed"}, Notes: []worker.Note{{Time: epoch.Add(ms(310)), Text: "bye"}}},
		{Process: 0, Through: ms(2100), Requests: asked(0, 200, 1200), Status: worker.Status{State: "synced"}},
		{Process: 0, Through: ms(2100), Ended: true, Status: worker.Status{State: "closed"}},
	} {
		c.add(r)
	}
	require.Equal(t, transcript{
		"310ms: process 2: bye",
		"1s: asked 2, admitted [1 1], [ closed]",
		"2s: asked 1, admitted [1 0], [ closed]",
	}, *tr)
	require.Equal(t, ms(2100), c.end())
}

// TestCollectorSumsWaitingCallers of two workers: at the end of a second, and as
// levels.
func TestCollectorSumsWaitingCallers(t *testing.T) {
	tr := &transcript{}
	c := newCollector(2, time.Now(), tr)
	for _, r := range []worker.Report{
		{Process: 0, Through: ms(900), Status: worker.Status{State: "synced", Waiting: 7}},
		{Process: 1, Through: ms(950), Status: worker.Status{State: "synced", Waiting: 5}},
		{Process: 0, Through: ms(2100), Status: worker.Status{State: "synced"}},
		{Process: 1, Through: ms(2050), Status: worker.Status{State: "synced", Waiting: 2}},
	} {
		c.add(r)
	}
	require.Equal(t, transcript{
		"1s: asked 0, admitted [0 0], [synced synced], 12 waiting",
		"2s: asked 0, admitted [0 0], [synced synced], 12 waiting",
	}, *tr)
	require.Equal(t, []trace.Level{
		{Span: trace.Span{To: ms(900)}, Callers: 7},
		{Span: trace.Span{To: ms(950)}, Callers: 5},
		{Span: trace.Span{From: ms(950), To: ms(2050)}, Callers: 2},
	}, c.levels)
}

func TestCollectorShowsSecondsWithoutRequests(t *testing.T) {
	tr := &transcript{}
	c := newCollector(1, time.Now(), tr)
	c.add(worker.Report{Through: ms(2100)})
	require.Len(t, *tr, 2)
	c.note(report.Note{At: ms(2200), Text: "late"})
	require.Equal(t, ms(2100), c.end())
	require.Equal(t, "2.2s: late", (*tr)[2])
}
