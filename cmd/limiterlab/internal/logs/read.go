package logs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
)

// Counts are the lines, formats and bytes that a reading has seen.
type Counts struct {
	Lines    int       // all lines except empty ones and rows of column names
	Unparsed int       // lines that could not be read
	NoKey    int       // lines that lack a part of the key
	Examples []Example // the first of the lines that could not be read
	Formats  []string  // formats found, each once
	Bytes    int64     // bytes read from the inputs, before unpacking
}

// Example is a line that could not be read.
type Example struct {
	File string
	Line int // number of the line in its file, from 1
	Text string
	Why  error // reason
}

const (
	maxExamples   = 3    // lines
	exampleLength = 120  // bytes of a line that are shown
	checkEvery    = 8192 // lines between two calls of tick
)

// reading is one pass over the inputs.
type reading struct {
	Counts
	options Options
	each    func(*Entry)
	tick    func(*Counts)
	entry   Entry
}

// Read calls each for every request of the inputs, in their order, and tick
// every 8192 lines of an input. After an error in one input it continues with
// the next. It returns all errors together. When ctx is done, it ends each
// input within 8192 lines, without an error.
func Read(ctx context.Context, inputs []Input, o Options, each func(*Entry), tick func(*Counts)) (Counts, error) {
	r := reading{options: o, each: each, tick: tick}
	var errs []error
	for _, in := range inputs {
		if err := r.file(ctx, in); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", in.Name, err))
		}
	}
	return r.Counts, errors.Join(errs...)
}

func (r *reading) file(ctx context.Context, in Input) error {
	content, closeFile, err := in.open(&r.Bytes)
	if err != nil {
		return err
	}
	defer closeFile()
	l := newLines(content)
	sample := l.sample()
	if len(sample) == 0 {
		_, _, err := l.next()
		return notEOF(err) // an empty file is no fault
	}
	p, format, err := newParser(sample, r.options)
	if err != nil {
		return err
	}
	before := r.Lines - r.Unparsed
	err = r.lines(ctx, in.Name, l, p)
	if err == nil && r.Lines-r.Unparsed == before && ctx.Err() == nil {
		return notUnderstood(sample[0])
	}
	if !slices.Contains(r.Formats, format) {
		r.Formats = append(r.Formats, format)
	}
	return err
}

func notEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// lines reads one file to its end, or until ctx is done.
func (r *reading) lines(ctx context.Context, name string, l lines, p parser) error {
	for number := 1; ; number++ {
		if number%checkEvery == 0 {
			if ctx.Err() != nil {
				return nil
			}
			r.tick(&r.Counts)
		}
		line, tooLong, err := l.next()
		if tooLong {
			r.unparsed(name, number, line, fmt.Errorf("longer than %d bytes", maxLine))
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("behind line %d: %w", number-1, err)
		}
		if !tooLong {
			r.line(name, number, line, p)
		}
	}
}

func (r *reading) line(name string, number int, line []byte, p parser) {
	e := &r.entry
	e.Key = e.Key[:0]
	if err := p.parse(line, e); err != nil {
		if !blank(line) && !errors.Is(err, errHeader) {
			r.unparsed(name, number, line, err)
		}
		return
	}
	r.Lines++
	if !e.HasKey {
		r.NoKey++
	}
	r.each(e)
}

func (r *reading) unparsed(name string, number int, line []byte, why error) {
	r.Lines++
	r.Unparsed++
	if len(r.Examples) < maxExamples {
		r.Examples = append(r.Examples, Example{name, number, shorten(line), why})
	}
}

// shorten returns a line, or its first exampleLength bytes, as valid UTF-8.
func shorten(line []byte) string {
	if len(line) > exampleLength {
		line = append(bytes.Clone(line[:exampleLength]), "…"...)
	}
	return string(bytes.ToValidUTF8(line, []byte("�")))
}
