package notify

import (
	"context"
	"log/slog"
	"runtime"
	"time"
)

// Log writes lines through a logger that may block, without waiting for it. If too
// many wait, the oldest are dropped; the next line has their number, as
// lines_dropped.
type Log struct {
	to      slog.Handler
	always  []slog.Attr
	lines   Queue[*slog.Record]
	dropped int // dropped lines not yet logged; only the queue's goroutine uses it
}

// NewLog returns a Log whose lines all begin with the given attributes.
func NewLog(to *slog.Logger, always ...slog.Attr) *Log {
	l := &Log{to: to.Handler(), always: always}
	l.lines.Call = l.write
	return l
}

// Info writes a line as [slog.Logger.Info] does.
func (l *Log) Info(msg string, args ...any) { l.add(slog.LevelInfo, msg, args) }

// Warn writes a line as [slog.Logger.Warn] does.
func (l *Log) Warn(msg string, args ...any) { l.add(slog.LevelWarn, msg, args) }

// Error writes a line as [slog.Logger.Error] does.
func (l *Log) Error(msg string, args ...any) { l.add(slog.LevelError, msg, args) }

// Wait waits until all lines are written, at most for d.
func (l *Log) Wait(d time.Duration) bool { return l.lines.Wait(d) }

// add queues a line. Its source is the caller of the method that calls add.
func (l *Log) add(level slog.Level, msg string, args []any) {
	var caller [1]uintptr
	runtime.Callers(3, caller[:]) // past Callers, add, and the method
	r := slog.NewRecord(time.Now(), level, msg, caller[0])
	r.AddAttrs(l.always...)
	r.Add(args...)
	l.lines.Add(&r)
}

// write calls the handler, which may block, on the queue's goroutine.
func (l *Log) write(r *slog.Record, dropped int) {
	l.dropped += dropped
	ctx := context.Background()
	if !l.to.Enabled(ctx, r.Level) {
		return
	}
	if l.dropped > 0 {
		r.AddAttrs(slog.Int("lines_dropped", l.dropped))
		l.dropped = 0
	}
	_ = l.to.Handle(ctx, *r) // as slog.Logger does
}
