package main

import (
	"context"
	"fmt"
	"time"

	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/report"
	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/store"
	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/trace"
)

// script takes the Redis of a run away and brings it back.
type script struct {
	store   store.Store
	epoch   time.Time
	planned []trace.Span
	notes   chan report.Note // of events; closed at the end of the script

	// To be read after notes is closed.
	outages []trace.Span // as measured: all the time that Redis may not have answered
	err     error        // of the script
}

// startScript starts the plan. It ends with ctx, and calls failed on an error.
func startScript(ctx context.Context, st store.Store, epoch time.Time, planned []trace.Span, failed func()) *script {
	s := &script{store: st, epoch: epoch, planned: planned, notes: make(chan report.Note)}
	go func() {
		defer close(s.notes)
		if s.err = s.play(ctx); s.err != nil {
			failed()
		}
	}()
	return s
}

// middleThird returns the outage of a run that takes d.
func middleThird(d time.Duration) []trace.Span {
	return []trace.Span{{From: d / 3, To: d - d/3}}
}

// play follows the plan until ctx ends. An outage that has not ended by then goes
// on for ever.
func (s *script) play(ctx context.Context) error {
	dies, returns := s.store.Fate()
	for _, p := range s.planned {
		if !s.sleepUntil(ctx, p.From) {
			return nil
		}
		from := s.say("Redis " + dies)
		s.outages = append(s.outages, trace.Span{From: from, To: forever})
		if err := s.store.Down(ctx); err != nil {
			return fmt.Errorf("taking Redis away: %w", err)
		}
		if !s.sleepUntil(ctx, p.To) {
			return nil
		}
		if err := s.store.Up(ctx); err != nil {
			return fmt.Errorf("bringing Redis back: %w", err)
		}
		s.outages[len(s.outages)-1].To = s.say("Redis " + returns)
	}
	return nil
}

// forever is later than any run.
const forever = 1000 * 24 * time.Hour

// say notes an event and returns its time.
func (s *script) say(text string) time.Duration {
	at := time.Since(s.epoch)
	s.notes <- report.Note{At: at, Text: text}
	return at
}

// sleepUntil sleeps until an instant of the run and reports whether ctx lasted as long.
func (s *script) sleepUntil(ctx context.Context, at time.Duration) bool {
	alarm := time.NewTimer(at - time.Since(s.epoch))
	defer alarm.Stop()
	select {
	case <-alarm.C:
		return true
	case <-ctx.Done():
		return false
	}
}
