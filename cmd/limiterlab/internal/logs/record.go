package logs

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// record is one line, split into values with names. Its columns are those of
// all lines of the file so far.
type record struct {
	columns  []column
	index    map[string]int // columns by name
	times    map[string]int // columns of times by name, in the form of [squeeze]
	values   [][]byte       // by column; nil if the line has none, empty if it is empty
	used     []int          // columns that have a value
	options  *Options
	all      bool // true if the values of all columns are used
	requests bool // true if the method or the path is a part of the key
	loggers  bool // true if a column names the part of a program that wrote the line
}

// column is a name that lines give to a value.
type column struct {
	name     string
	role     role
	rank     int  // among the columns of one role, the best first
	wanted   bool // true if its values are used
	seen     bool // true if a line had a value
	numbered bool // true if it is a word whose name the log does not have
	tally         // addresses, if the column may hold the client

	// Address of the line in the column, if the column may hold the client.
	address              netip.Addr
	withPort, hasAddress bool
}

// maxColumns is the largest number of columns. It bounds the memory for logs
// whose names are values.
const maxColumns = 5000

func newRecord(o *Options) *record {
	return &record{index: make(map[string]int), times: make(map[string]int), options: o, requests: o.names("method") || o.names("path")}
}

// begin removes the values of the line before.
func (r *record) begin() {
	for _, c := range r.used {
		r.values[c] = nil
	}
	r.used = r.used[:0]
}

// column returns the column of a name, or −1 if there are too many.
func (r *record) column(name []byte) int {
	if c, ok := r.index[string(name)]; ok {
		return c
	}
	role, rank := roleOf(string(name))
	return r.add(string(name), role, rank)
}

// add adds a column that is not there yet.
func (r *record) add(name string, as role, rank int) int {
	wanted := r.all || as != plain || r.options.names(name)
	if len(r.columns) >= maxColumns && !r.options.names(name) {
		return -1
	}
	r.loggers = r.loggers || as == logger
	r.columns = append(r.columns, column{name: name, role: as, rank: rank, wanted: wanted})
	r.values = append(r.values, nil)
	r.index[name] = len(r.columns) - 1
	if as == timeRole {
		r.times[squeeze(name)] = len(r.columns) - 1
	}
	return len(r.columns) - 1
}

// fixed adds a column that every line has, or that a key may name even if the
// first lines lack it.
func (r *record) fixed(name string, as role) int {
	c := r.add(name, as, 0)
	r.columns[c].seen = true
	return c
}

// word adds a column for words without a name, which may be of a header. The
// name has their number, if it is not 0.
func (r *record) word(name string, number int) int {
	if number > 0 {
		name += strconv.Itoa(number)
	}
	c := r.add(name, forwarded, number)
	r.columns[c].numbered = true
	return c
}

// named returns the column of a name that a row of names has, or −1 if there are
// too many.
func (r *record) named(name []byte) int {
	c := r.column(name)
	if c >= 0 {
		r.columns[c].seen = true
	}
	return c
}

// set sets the value of a column.
func (r *record) set(c int, value []byte) {
	if value == nil {
		value = []byte{}
	}
	if r.values[c] == nil {
		r.used = append(r.used, c)
	}
	r.values[c] = value
	r.columns[c].seen = true
}

// locate reads the addresses in the columns that may hold the client.
func (r *record) locate() {
	for _, i := range r.used {
		if c := &r.columns[i]; c.role.isCandidate() {
			c.address, c.withPort, c.hasAddress = parseFirst(r.values[i])
		}
	}
}

// address returns the address in a column. Those of columns that may hold the
// client were read by locate.
func (r *record) address(i int) (a netip.Addr, ok bool) {
	c := &r.columns[i]
	switch {
	case r.values[i] == nil:
		return a, false
	case c.role.isCandidate():
		return c.address, c.hasAddress
	}
	a, _, ok = parseFirst(r.values[i])
	return a, ok
}

// has reports whether the line has a value in any column of a role.
func (r *record) has(as role) bool {
	return slices.ContainsFunc(r.used, func(c int) bool {
		return r.columns[c].role == as && len(r.values[c]) > 0
	})
}

// names returns the names that a key may have, in the order of the lines.
func (r *record) names() (names []string) {
	for _, c := range r.columns {
		if c.seen {
			names = append(names, c.name)
		}
	}
	return names
}

// withAddresses returns the names of the columns that have had addresses.
func (r *record) withAddresses() (names []string) {
	for _, c := range r.columns {
		if c.lines > 0 {
			names = append(names, c.name)
		}
	}
	return names
}

// without describes the columns that may hold the client, but have no address.
func (r *record) without() string {
	for _, c := range r.columns {
		if c.role.isCandidate() && c.seen && c.lines == 0 {
			return fmt.Sprintf(" (%q has none)", c.name)
		}
	}
	return ""
}

// find returns the column that a name in the options means: the one of that
// name, or the best of the role that the name stands for. It returns −1 if
// there is none.
func (r *record) find(name string) int {
	if c, ok := r.index[name]; ok {
		return c
	}
	as, ok := roles[name]
	if !ok {
		return -1
	}
	best := -1
	for c := range r.columns {
		if r.columns[c].role == as && (best < 0 || r.columns[c].rank < r.columns[best].rank) {
			best = c
		}
	}
	return best
}

// hasTime reports whether a column may hold the time.
func (r *record) hasTime(o *Options) bool {
	if o.TimeField != "" {
		name, _, _ := strings.Cut(o.TimeField, "+")
		_, ok := r.index[name]
		return ok
	}
	return slices.ContainsFunc(r.columns, func(c column) bool { return c.role == timeRole })
}
