package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/logs"
	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/report"
)

// progress shows the progress of the reading on one line of a terminal.
type progress struct {
	w     io.Writer // nil without a terminal
	size  int64     // of all inputs; 0 if not known
	pass  int
	begun time.Time
	shown time.Time
}

func newProgress(w io.Writer, inputs []logs.Input) *progress {
	p := &progress{}
	if isTerminal(w) {
		p.w = w
	}
	if logs.Again(inputs) {
		for _, in := range inputs {
			p.size += in.Size
		}
	}
	return p
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// begin begins a pass over the inputs.
func (p *progress) begin() {
	p.pass++
	p.begun = time.Now()
}

const (
	showEvery = 200 * time.Millisecond
	clearLine = "\r\x1b[K"
)

// tick shows the progress, at most every showEvery.
func (p *progress) tick(c *logs.Counts) {
	now := time.Now()
	if p.w == nil || now.Sub(p.shown) < showEvery {
		return
	}
	p.shown = now
	fmt.Fprint(p.w, clearLine, p.line(c, now.Sub(p.begun)))
}

func (p *progress) line(c *logs.Counts, since time.Duration) string {
	rate := float64(c.Lines) / since.Seconds()
	lines := fmt.Sprintf("%s lines, %s a second", report.Thousands(c.Lines), report.Thousands(int(rate)))
	if p.pass > 1 {
		lines += fmt.Sprintf(", pass %d", p.pass)
	}
	if p.size == 0 {
		return lines
	}
	return fmt.Sprintf("%3d %% of %s, %s", 100*c.Bytes/p.size, megabytes(p.size), lines)
}

func megabytes(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }

// end removes the line.
func (p *progress) end() {
	if p.w != nil && !p.shown.IsZero() {
		fmt.Fprint(p.w, clearLine)
	}
}
