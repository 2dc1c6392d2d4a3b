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
	Other    int       // lines that are no requests, such as notes of a server
	NoKey    int       // lines that lack a part of the key
	Repeated int       // lines with a key whose request ID an earlier line has
	Examples []Example // the first of the lines that could not be read
	Passed   *Example  // the first of the lines that are no requests
	Formats  []string  // formats found, each once
	Clients  []string  // fields of the client found, each once; none for the first word of access logs
	Bytes    int64     // bytes read from the inputs, before unpacking
	Keys     KeyForms
}

// Example is a line that could not be read, or is no request.
type Example struct {
	File string
	Line int // number of the line in its file, from 1
	Text string
	Why  error // reason

	source string // program that wrote the line
}

// error describes the line in an error, without its file.
func (e *Example) error() error {
	return fmt.Errorf("the first is line %d: %w: %q", e.Line, e.Why, e.Text)
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
	if len(sample.lines) == 0 {
		_, _, err := l.next()
		return notEOF(err) // an empty file is no fault
	}
	f, form, err := newFile(sample, r.options)
	if err != nil {
		return err
	}
	before := r.Counts
	sources := make(sources)
	err = r.lines(ctx, in.Name, l, f, sources)
	r.pass(sources, f)
	addOnce(&r.Formats, form)
	if name := f.clientName(); name != "" {
		addOnce(&r.Clients, name)
	}
	if err != nil || ctx.Err() != nil {
		return err
	}
	return r.check(&before, f)
}

// pass counts the lines of programs that wrote no request as lines that are
// none.
func (r *reading) pass(s sources, f *file) {
	if !s.anyRead() {
		return
	}
	for _, c := range s {
		if c.read > 0 || c.requests > 0 || c.unread == 0 {
			continue
		}
		r.Unparsed -= c.unread
		r.Other += c.unread
		if f.passed == nil {
			f.passed = &c.first
		}
		if r.Passed == nil {
			r.Passed = f.passed
		}
		r.Examples = slices.DeleteFunc(r.Examples, func(e Example) bool { return e.File == c.first.File && e.source == c.first.source })
		if first := s.firstUnread(); first != nil && f.first.source == c.first.source {
			f.first = first
		}
	}
}

// firstUnread returns the first line that could not be read, of a program that
// wrote requests, nil if there is none.
func (s sources) firstUnread() (first *Example) {
	for _, c := range s {
		if c.unread > 0 && (c.read > 0 || c.requests > 0) && (first == nil || c.first.Line < first.Line) {
			first = &c.first
		}
	}
	return first
}

// mostUnparsed is the largest part of the lines of a file that may be
// unreadable: one in so many.
const mostUnparsed = 10

// check returns an error if too little of a file was read. before has the
// counts before the file.
func (r *reading) check(before *Counts, f *file) error {
	unparsed := r.Unparsed - before.Unparsed
	other := r.Other - before.Other
	read := r.Lines - before.Lines - unparsed - other
	noKey := r.NoKey - before.NoKey
	switch {
	case read == 0 && unparsed > 0:
		return notUnderstood(f.first.Line, []byte(f.first.Text), f.first.Why)
	case read == 0 && other > 0:
		return fmt.Errorf("%w: none of %d is a request; %w", ErrNotUnderstood, other, f.passed.error())
	case read == 0:
		return nil // names of columns alone
	case mostUnparsed*unparsed > read+unparsed:
		return fmt.Errorf("%d of %d lines could not be read, more than one in %d; %w", unparsed, read+unparsed, mostUnparsed, f.first.error())
	case r.options.Key.Client() && 2*noKey > read:
		return fmt.Errorf("%d of %d requests have no address in %s", noKey, read, f.addressNames())
	}
	return f.conflict()
}

func addOnce(list *[]string, s string) {
	if !slices.Contains(*list, s) {
		*list = append(*list, s)
	}
}

func notEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// lines reads one file to its end, or until ctx is done.
func (r *reading) lines(ctx context.Context, name string, l lines, f *file, s sources) error {
	for number := 1; ; number++ {
		if number%checkEvery == 0 {
			if ctx.Err() != nil {
				return nil
			}
			r.tick(&r.Counts)
		}
		line, tooLong, err := l.next()
		if tooLong {
			f.source = nil
			r.unparsed(name, number, line, fmt.Errorf("longer than %d bytes", maxLine), f, s)
		}
		if errors.Is(err, io.EOF) {
			r.unended(name, number-1, f, s)
			return nil
		}
		if err != nil {
			return fmt.Errorf("behind line %d: %w", number-1, err)
		}
		if !tooLong {
			r.line(name, number, line, f, s)
		}
	}
}

// unended counts the lines whose last parts are missing at the end of a file.
func (r *reading) unended(name string, number int, f *file, s sources) {
	for source, part := range f.begun {
		f.source = []byte(source)
		r.unparsed(name, number, part, errors.New("the end of the line is missing"), f, s)
	}
}

func (r *reading) line(name string, number int, line []byte, f *file, s sources) {
	e := &r.entry
	e.Key = e.Key[:0]
	err := f.parse(line, e)
	switch {
	case err == nil:
	case blank(line), errors.Is(err, errHeader), errors.Is(err, errPart):
		return
	case isOther(err):
		r.Lines++
		r.Other++
		if f.passed == nil {
			f.passed = &Example{File: name, Line: number, Text: shorten(line), Why: err}
		}
		if r.Passed == nil {
			r.Passed = f.passed
		}
		return
	default:
		r.unparsed(name, number, line, err, f, s)
		return
	}
	r.Lines++
	if c := s.of(f); c != nil {
		c.read++
	}
	if e.HasKey {
		r.Keys.add(e)
		if f.ids.repeats(f.record) {
			r.Repeated++
		}
	} else {
		r.NoKey++
	}
	r.each(e)
}

func (r *reading) unparsed(name string, number int, line []byte, why error, f *file, s sources) {
	r.Lines++
	r.Unparsed++
	example := Example{name, number, "", why, string(f.source)}
	c := s.of(f)
	if len(r.Examples) < maxExamples || f.first == nil || c != nil && c.unread == 0 {
		example.Text = shorten(line)
	}
	if f.first == nil {
		f.first = &example
	}
	if len(r.Examples) < maxExamples {
		r.Examples = append(r.Examples, example)
	}
	if c != nil {
		if c.unread == 0 {
			c.first = example
		}
		c.unread++
		if resemblesRequest(line) {
			c.requests++
		}
	}
}

// sources counts the lines of each program whose lines share a file.
type sources map[string]*sourceCount

type sourceCount struct {
	read, unread int
	requests     int     // lines not read that resemble requests
	first        Example // first line not read
}

// of returns the counts of the program that wrote the last line, nil if it is
// not known.
func (s sources) of(f *file) *sourceCount {
	if len(f.source) == 0 {
		return nil
	}
	c, ok := s[string(f.source)]
	if !ok && len(s) < maxSources {
		c = &sourceCount{}
		s[string(f.source)] = c
	}
	return c
}

func (s sources) anyRead() bool {
	for _, c := range s {
		if c.read > 0 {
			return true
		}
	}
	return false
}

// resemblesRequest reports whether a line seems to be of a request, in whatever
// format.
func resemblesRequest(line []byte) bool {
	for _, mark := range []string{"GET ", "POST ", "PUT ", "HEAD ", "HTTP/", `"method`, `"uri`, `"path`} {
		if bytes.Contains(line, []byte(mark)) {
			return true
		}
	}
	return false
}

// shorten returns a line, or its first exampleLength bytes, as valid UTF-8.
func shorten(line []byte) string {
	if len(line) > exampleLength {
		line = append(bytes.Clone(line[:exampleLength]), "…"...)
	}
	return string(bytes.ToValidUTF8(line, []byte("�")))
}
