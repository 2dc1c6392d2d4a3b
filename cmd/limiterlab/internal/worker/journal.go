package worker

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// journal keeps what was logged until the next report.
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

// line is the buffer of a handler and of all that were made from it.
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

// forReader leaves to Handle what every record has, drops times of day, since
// a note has the lab's own, and rounds durations.
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
	h.journal.add(Note{Time: r.Time, Text: strings.TrimSpace(text)})
	return nil
}

// WithAttrs implements [slog.Handler].
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &handler{journal: h.journal, text: h.text.WithAttrs(attrs), line: h.line}
}

// WithGroup implements [slog.Handler].
func (h *handler) WithGroup(name string) slog.Handler {
	return &handler{journal: h.journal, text: h.text.WithGroup(name), line: h.line}
}
