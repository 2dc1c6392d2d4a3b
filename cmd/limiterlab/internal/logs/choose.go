package logs

import (
	"fmt"
	"slices"
	"strings"
)

// dateAndTime stands for the columns of date and time together, in a map by
// column.
const dateAndTime = -1

// timeTally counts the times in a column.
type timeTally struct {
	lines  int
	first  int64 // first time, in nanoseconds since 1970
	varies bool  // true if another time came later
}

// countTimes counts the columns of the line that hold a time.
func (f *file) countTimes(times map[int]*timeTally) {
	var c clock
	var e Entry
	add := func(column int, text []byte) {
		if c.read(text, &e) != nil {
			return
		}
		t := times[column]
		if t == nil {
			t = &timeTally{first: e.At}
			times[column] = t
		}
		t.lines++
		t.varies = t.varies || e.At != t.first
	}
	for _, column := range f.record.used {
		if f.record.columns[column].role == timeRole {
			add(column, f.record.values[column])
		}
	}
	if both := f.dateColumns(); both != nil {
		add(dateAndTime, f.timeText(both))
	}
}

// dateColumns returns the columns named date and time, or nil.
func (f *file) dateColumns() []int {
	date, hasDate := f.record.times["date"]
	at, hasTime := f.record.times["time"]
	if !hasDate || !hasTime {
		return nil
	}
	return []int{date, at}
}

// findTime returns the columns of the time: those of the options, or the best
// of the usual names that hold a time in most lines. A time that is the same in
// all lines, as that of the start of a program, is not taken if another varies.
func (f *file) findTime(times map[int]*timeTally) ([]int, error) {
	if f.options.TimeField != "" {
		return f.namedTime()
	}
	most, varies := 0, false
	for _, t := range times {
		most = max(most, t.lines)
		varies = varies || t.varies
	}
	best := -1
	for i := range f.record.columns {
		if t := times[i]; t == nil || 2*t.lines < most || varies && !t.varies {
			continue
		}
		if best < 0 || f.record.columns[i].rank < f.record.columns[best].rank {
			best = i
		}
	}
	switch {
	case best >= 0:
		return []int{best}, nil
	case times[dateAndTime] != nil:
		return f.dateColumns(), nil
	}
	return f.unreadTime()
}

// unreadTime returns the best column with a usual name of the time, for a sample
// in which none holds a time. The errors of its lines are those to show.
func (f *file) unreadTime() ([]int, error) {
	best := -1
	for i := range f.record.columns {
		c := &f.record.columns[i]
		if c.role == timeRole && c.seen && (best < 0 || c.rank < f.record.columns[best].rank) {
			best = i
		}
	}
	if best < 0 {
		return nil, &FieldError{Has: f.record.names()}
	}
	return []int{best}, nil
}

func (f *file) namedTime() (columns []int, err error) {
	for name := range strings.SplitSeq(f.options.TimeField, "+") {
		c, ok := f.record.index[name]
		if !ok || !f.record.columns[c].seen {
			return nil, &FieldError{Field: name, Has: f.record.names()}
		}
		columns = append(columns, c)
	}
	return columns, nil
}

// findKey sets the columns of the parts of the key.
func (f *file) findKey(d detected) error {
	for _, p := range f.options.Key.parts {
		k := keyColumn{p, -1}
		if p.address || p.field != clientField {
			k.column = f.record.find(p.field)
			if k.column < 0 || !f.record.columns[k.column].seen {
				return &FieldError{Field: p.field, Has: f.names()}
			}
		} else if err := f.checkClient(d); err != nil {
			return err
		}
		f.parts = append(f.parts, k)
	}
	return nil
}

// names returns the names of fields for an error, with that of the client.
func (f *file) names() []string {
	names := f.record.names()
	if f.client.verdict != neither && !slices.Contains(names, clientField) {
		names = append([]string{clientField}, names...)
	}
	return names
}

// checkClient returns an error if the client is in no column, or in one of two.
func (f *file) checkClient(d detected) error {
	e := &FieldError{Field: clientField, Has: f.record.names()}
	switch f.client.verdict {
	case neither:
		e.Why = "no field of the usual names holds the client's address" + f.record.without() + ": name it with -key addr:FIELD"
		if names := d.withAddresses(&f.options); len(names) > 0 {
			e.Why += " (addresses are in " + strings.Join(names, ", ") + ")"
		}
	case unclear:
		one, other := f.client.rivals(f.record)
		e.Why = fmt.Sprintf("%s: name the right one with -key addr:%s or -key addr:%s",
			f.client.explain(f.record), f.record.columns[one].name, f.record.columns[other].name)
	default:
		return nil
	}
	return e
}

// withAddresses returns the names of all columns of the sample with addresses.
func (d *detected) withAddresses(o *Options) []string {
	r := newRecord(o)
	r.all = true
	s, err := d.open(d.inner, r)
	if err != nil {
		return nil
	}
	for _, line := range d.inner {
		r.begin()
		if s.split(line, r) != nil {
			continue
		}
		for _, c := range r.used {
			if a, withPort, ok := parseFirst(r.values[c]); ok {
				r.columns[c].add(a, withPort)
			}
		}
	}
	return r.withAddresses()
}

// checkBalancer returns an error if the client would be one of few addresses of
// a private network, while the lines have addresses from outside elsewhere.
func (f *file) checkBalancer(sample [][]byte) error {
	c := &f.record.columns[f.client.column()]
	if c.lines < leastSuspect || 10*c.internal < 9*c.lines || len(c.distinct) == maxDistinct {
		return nil
	}
	var elsewhere tally
	for _, line := range sample {
		if a, ok := outsideAddress(line); ok {
			elsewhere.add(a, false)
		}
	}
	if 10*elsewhere.lines < 9*c.lines || len(elsewhere.distinct) < maxDistinct {
		return nil
	}
	return &FieldError{Field: clientField, Has: f.record.names(), Why: fmt.Sprintf(
		"nearly all lines have the private address %v in %q, as of a balancer, and others elsewhere, such as %v: name the field of the client with -key addr:FIELD (-key addr:%s if it is right)",
		c.distinct[0], c.name, elsewhere.distinct[0], c.name)}
}

// checkNames returns an error if the client would be a name that nearly every
// line has of its own, as those of connections and requests.
func (f *file) checkNames(sample [][]byte) error {
	c := &f.record.columns[f.client.column()]
	if c.hosts < leastSuspect || c.lines > 0 {
		return nil
	}
	names := make(map[string]bool)
	f.each(sample, func() { names[string(f.record.values[f.client.column()])] = true })
	if 10*len(names) < 9*c.hosts {
		return nil
	}
	return &FieldError{Field: clientField, Has: f.record.names(), Why: fmt.Sprintf(
		"%q has no address, and nearly every line has a name of its own there: name the field of the client with -key addr:FIELD (-key addr:%s if it is right)", c.name, c.name)}
}

// leastSuspect is the least number of lines by which addresses or names seem to
// be none of clients.
const leastSuspect = 20
