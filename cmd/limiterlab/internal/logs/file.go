package logs

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// file reads the lines of one file.
type file struct {
	options Options
	unwrapper
	splitter splitter
	record   *record
	source   []byte // program or stream of the last line, in its envelope

	clock    clock
	time     []int  // columns of the time: one, or those of date and time
	dateTime []byte // text of a time in two columns
	parts    []keyColumn
	first    *Example     // first line that could not be read
	passed   *Example     // first line that is no request
	client   clientChoice // by the sample
	all      clientChoice // by all lines so far
	ids      requestIDs
}

// keyColumn is a part of the key with its column.
type keyColumn struct {
	part
	column int // −1 for the client
}

// errHeader is the error for a line that names columns.
var errHeader = errors.New("the names of the columns")

// otherLineError is the reason for which a line is no request. Such lines are
// passed over, and counted.
type otherLineError struct{ why string }

func (e *otherLineError) Error() string { return e.why }

func otherLine(why string) error { return &otherLineError{why} }

func isOther(err error) bool {
	var other *otherLineError
	return errors.As(err, &other)
}

// newFile returns the reader of a file that begins with a sample, and the name
// of its form.
func newFile(sample sample, o Options) (*file, string, error) {
	d, err := detect(sample, &o)
	if err != nil {
		return nil, "", err
	}
	f := &file{options: o, unwrapper: unwrapper{chain: d.chain}}
	f.record = newRecord(&f.options)
	if f.splitter, err = d.open(d.inner, f.record); err != nil {
		return nil, "", err
	}
	times := make(map[int]*timeTally) // by column
	f.each(d.inner, func() { count(f.record); f.countTimes(times) })
	if f.time, err = f.findTime(times); err != nil {
		return nil, "", err
	}
	f.client.choose(f.record)
	f.each(d.inner, func() { f.client.compare(f.record) })
	f.client.verdict = f.client.judge(f.record)
	f.all = f.client
	if err := f.findKey(d); err != nil {
		return nil, "", err
	}
	if f.byClient() {
		if err := errors.Join(f.checkBalancer(d.inner), f.checkNames(d.inner)); err != nil {
			return nil, "", err
		}
	}
	f.beginCounts()
	return f, d.describe(), nil
}

// each splits the lines of a sample, and calls do for each.
func (f *file) each(sample [][]byte, do func()) {
	f.rewind()
	for _, line := range sample {
		f.record.begin()
		if f.splitter.split(line, f.record) == nil && f.otherLogger() == nil {
			f.record.locate()
			do()
		}
	}
}

// rewind prepares the splitter for the first line.
func (f *file) rewind() {
	if s, ok := f.splitter.(interface{ rewind() }); ok {
		s.rewind()
	}
}

// beginCounts begins to count the addresses of all lines.
func (f *file) beginCounts() {
	for i := range f.record.columns {
		f.record.columns[i].tally = tally{}
	}
	f.all = clientChoice{direct: f.client.direct, header: f.client.header}
	f.rewind()
}

// parse sets the fields of e by a line. It appends to the Key of e, which is
// empty before.
func (f *file) parse(line []byte, e *Entry) (err error) {
	line, f.source, err = f.open(line)
	switch {
	case err != nil && isNote(line):
		return otherLine("a note")
	case err != nil:
		return err
	case blank(line):
		return errHeader
	}
	r := f.record
	r.begin()
	if err := f.splitter.split(line, r); err != nil {
		if isNote(line) && !errors.Is(err, errHeader) {
			return otherLine("a note")
		}
		return err
	}
	if err := f.otherLogger(); err != nil {
		return err
	}
	r.locate()
	count(r)
	if f.client.header >= 0 {
		f.all.compare(r)
	}
	if err := f.readTime(e); err != nil {
		return f.unlessOther(err)
	}
	e.HasKey, e.address, e.internal = true, false, false
	for _, k := range f.parts {
		if err := f.appendPart(k, e); err != nil {
			return f.unlessOther(err)
		}
	}
	return nil
}

// unlessOther returns the error of a line that is a request, and else one for a
// line of another kind. Requests have a method or a path, if any line has them.
func (f *file) unlessOther(err error) error {
	r := f.record
	if !errors.Is(err, errMissing) || r.has(method) || r.has(path) {
		return err
	}
	return otherLine(err.Error())
}

// errMissing is the error for a line that lacks a field.
var errMissing = errors.New("the line lacks the field")

func (f *file) readTime(e *Entry) error {
	text := f.timeText(f.time)
	if len(text) == 0 {
		return fmt.Errorf("%w %q, which holds the time", errMissing, f.record.columns[f.time[0]].name)
	}
	return f.clock.read(text, e)
}

// timeText returns the text of a time in one column, or in several.
func (f *file) timeText(columns []int) []byte {
	if len(columns) == 1 {
		return f.record.values[columns[0]]
	}
	f.dateTime = f.dateTime[:0]
	for i, c := range columns {
		if f.record.values[c] == nil {
			return nil
		}
		if i > 0 {
			f.dateTime = append(f.dateTime, ' ')
		}
		f.dateTime = append(f.dateTime, f.record.values[c]...)
	}
	return f.dateTime
}

func (f *file) appendPart(k keyColumn, e *Entry) error {
	switch {
	case k.column < 0:
		return f.appendClient(e)
	case k.address:
		return f.appendAddress(k.column, e)
	}
	value := f.record.values[k.column]
	if k.field == "path" {
		value = withoutQuery(value)
	}
	if len(value) == 0 || string(value) == "-" {
		e.HasKey = false
		return nil
	}
	e.separate()
	e.Key = append(e.Key, value...)
	return nil
}

func (f *file) appendClient(e *Entry) error {
	c := f.client.column()
	if f.record.values[c] != nil {
		return f.appendAddress(c, e)
	}
	if f.client.verdict == byHeader && f.client.direct >= 0 && f.record.values[f.client.direct] != nil {
		e.HasKey = false // it has not come through the balancer
		return nil
	}
	return fmt.Errorf("%w %q, which holds the client", errMissing, f.record.columns[c].name)
}

// appendAddress appends the address in a column to the key.
func (f *file) appendAddress(c int, e *Entry) error {
	a, ok := f.record.address(c)
	value := f.record.values[c]
	if !ok {
		value = firstOfList(value)
	}
	switch {
	case ok:
	case isNothing(value):
		e.HasKey = false
		return nil
	case !f.record.columns[c].mayBeHost(value):
		return fmt.Errorf("%q in %q is no address", shorten(value), f.record.columns[c].name)
	}
	e.separate()
	if ok {
		e.address, e.internal = true, isInternal(a)
		e.Key = appendNetwork(e.Key, a)
	} else {
		e.Key = append(e.Key, value...)
	}
	return nil
}

// otherLogger returns an error for a line of Caddy that is not of its access
// log, because its other loggers repeat the same requests.
func (f *file) otherLogger() error {
	if !f.record.loggers {
		return nil
	}
	for _, c := range f.record.used {
		if f.record.columns[c].role != logger {
			continue
		}
		value := f.record.values[c]
		for _, prefix := range []string{"http.log.error", "http.handlers", "http.reverse_proxy", "http.auto_https", "http.stdlib", "admin"} {
			if bytes.HasPrefix(value, []byte(prefix)) {
				return otherLine("a line of the logger " + shorten(value))
			}
		}
	}
	return nil
}

// isNote reports whether a line is a note that servers write among their
// requests: of the start of a container, or of an error.
func isNote(line []byte) bool {
	for _, prefix := range []string{"/docker-entrypoint", "AH0", "[NOTICE]", "[WARNING]", "[ALERT]", "Proxy ", "10-listen-on-ipv6", "20-envsubst", "-- ", "> ", "Attaching to ", "#"} {
		if bytes.HasPrefix(line, []byte(prefix)) {
			return true
		}
	}
	if len(line) > 22 && isDigit(line[0]) && line[4] == '/' && line[7] == '/' && line[20] == '[' { // nginx
		return true
	}
	_, rest, ok := bytes.Cut(line, []byte("] ["))
	return ok && len(line) > 24 && line[0] == '[' && isLetter(line[1]) && bytes.IndexByte(rest, ':') > 0 // Apache
}

// byClient reports whether the client is a part of the key.
func (f *file) byClient() bool {
	return slices.ContainsFunc(f.parts, func(k keyColumn) bool { return k.column < 0 })
}

// clientName returns the field of the client, "" if the key has none or if it
// is the first word of an access log, as usual.
func (f *file) clientName() string {
	if !f.byClient() {
		return ""
	}
	if name := f.record.columns[f.client.column()].name; name != "peer" {
		return name
	}
	return ""
}

// addressNames returns the fields of the key that hold addresses.
func (f *file) addressNames() string {
	var names []string
	for _, k := range f.parts {
		switch {
		case k.column < 0:
			names = append(names, quotedName(f.record, f.client.column()))
		case k.address:
			names = append(names, quotedName(f.record, k.column))
		}
	}
	return strings.Join(names, " and ")
}

// conflict returns an error if all lines of the file together leave another
// column for the client than the first lines.
func (f *file) conflict() error {
	if !f.byClient() {
		return nil
	}
	why := f.client.contradiction(f.all, f.record)
	if why == "" {
		return nil
	}
	return &FieldError{Field: clientField, Why: why + ": name the right field with -key addr:FIELD", Has: f.record.withAddresses()}
}
