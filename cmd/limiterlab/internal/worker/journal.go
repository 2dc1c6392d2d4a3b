package worker

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"sync"
	"syscall"
	"time"
)

// journal keeps logged notes until the next report.
type journal struct {
	mu    sync.Mutex
	notes []Note
}

func (j *journal) add(n Note) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.notes = append(j.notes, n)
}

func (j *journal) take() []Note {
	j.mu.Lock()
	defer j.mu.Unlock()
	notes := j.notes
	j.notes = nil
	return notes
}

// handler is a [slog.Handler] that writes a record into a journal as a line for
// a reader: the level where it is not INFO, the message, the attributes.
type handler struct {
	journal *journal
	text    slog.Handler // renders the attributes, into line
	line    *line
}

// line is the buffer shared by a handler and all handlers made from it.
type line struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func newHandler(j *journal) *handler {
	l := &line{}
	return &handler{
		journal: j,
		text:    slog.NewTextHandler(&l.buf, &slog.HandlerOptions{ReplaceAttr: forReader}),
		line:    l,
	}
}

// forReader drops the attributes that Handle writes itself and times of day,
// because a note has the lab's own, and rounds durations.
func forReader(groups []string, a slog.Attr) slog.Attr {
	switch {
	case len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey || a.Key == slog.MessageKey):
		return slog.Attr{}
	case a.Value.Kind() == slog.KindTime:
		return slog.Attr{}
	case a.Value.Kind() == slog.KindDuration:
		return slog.Duration(a.Key, a.Value.Duration().Round(time.Millisecond))
	}
	return a
}

// Enabled implements [slog.Handler].
func (h *handler) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelInfo }

// Handle implements [slog.Handler].
func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	h.line.mu.Lock()
	defer h.line.mu.Unlock()
	h.line.buf.Reset()
	if err := h.text.Handle(ctx, r); err != nil {
		return err
	}
	text := r.Message + " " + strings.TrimSpace(h.line.buf.String())
	if r.Level != slog.LevelInfo {
		text = r.Level.String() + " " + text
	}
	n := Note{Time: r.Time, Text: strings.TrimSpace(text)}
	n.Change, n.Cause = change(r)
	h.journal.add(n)
	return nil
}

// change reports whether a record is about the limiter's state, and the cause
// where Redis can't be used. The limiter logs the state before ("was") when it is
// synced, and the error ("err") and its begin ("since") when it is not.
func change(r slog.Record) (bool, string) {
	attrs := map[string]slog.Value{}
	r.Attrs(func(a slog.Attr) bool {
		attrs[a.Key] = a.Value
		return true
	})
	if _, ok := attrs["was"]; ok {
		return true, ""
	}
	err, ok := attrs["err"].Any().(error)
	if _, since := attrs["since"]; ok && since {
		return true, cause(err)
	}
	return false, ""
}

// cause names an error of an exchange in a few words.
func cause(err error) string {
	var net interface{ Timeout() bool }
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "connection closed"
	case errors.As(err, &net) && net.Timeout(), strings.HasSuffix(err.Error(), "no answer yet"):
		return "no answer"
	}
	_, text, found := strings.Cut(err.Error(), ": sync: ")
	if !found {
		return err.Error()
	}
	return text
}

// WithAttrs implements [slog.Handler].
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &handler{journal: h.journal, text: h.text.WithAttrs(attrs), line: h.line}
}

// WithGroup implements [slog.Handler].
func (h *handler) WithGroup(name string) slog.Handler {
	return &handler{journal: h.journal, text: h.text.WithGroup(name), line: h.line}
}
