// Package logs reads requests from the logs of servers. It keeps one line in
// memory at a time, for a log of any size.
//
// A file goes through these steps:
//
//   - the envelopes of its lines are found ([envelope]), such as syslog;
//   - its format is found ([format]), whose splitter makes a [record] of a line;
//   - the columns of the time and of the client are found ([clientChoice]);
//   - each line becomes an [Entry], or is counted with a reason.
//
// The first lines decide. All lines must agree with them, or the reading fails.
package logs

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Entry is one request of a log.
type Entry struct {
	At     int64  // time in nanoseconds since 1970
	Offset int    // seconds by which the line's time zone is east of UTC
	Whole  bool   // true if the time has no fraction of a second
	Key    []byte // key, its parts separated by [Separator]; valid until the next line
	HasKey bool   // true if the line has all parts of the key

	address  bool // true if the key is an address, or has one
	internal bool // true if that is of a private network or of the machine itself
}

// Separator is the byte between the parts of a key. Because values hardly ever
// hold this control character, different parts make different keys.
const Separator = '\x1f'

// Options are the format of a log and the fields to read from it.
type Options struct {
	Format    string // one of Formats; empty: detected from the first lines of each file
	TimeField string // field or column of the time, or two joined with "+"; empty: the best of its usual names that the log has
	Key       Key
}

// names reports whether a name is one of the options.
func (o *Options) names(name string) bool {
	if slices.Contains(strings.Split(o.TimeField, "+"), name) {
		return true
	}
	return slices.ContainsFunc(o.Key.parts, func(p part) bool { return p.field == name })
}

// ErrNotUnderstood is the error for an input of which no line could be read.
var ErrNotUnderstood = errors.New("no line could be read")

// FieldError is the error for a field that the log lacks, or for two fields
// that may both hold the client. It lists the fields that the log has.
type FieldError struct {
	Field string // name in the options; empty for the time
	Has   []string
	Why   string // reason, in place of the usual one
}

func (e *FieldError) Error() string {
	has := e.Has
	more := ""
	if len(has) > maxNames {
		more = fmt.Sprintf(" and %d more", len(has)-maxNames)
		has = has[:maxNames]
	}
	list := strings.Join(has, ", ") + more
	if list == "" {
		list = "no fields"
	}
	switch {
	case e.Why != "":
		return e.Why + "; the log has " + list
	case e.Field == "":
		return "no field of the usual names holds the time: name it with -time-field; the log has " + list
	}
	return fmt.Sprintf("the log has no field %q, but %s", e.Field, list)
}

const maxNames = 60 // fields that an error lists

// Key names the fields of a request that make its key.
type Key struct{ parts []part }

// part is a field of a key.
type part struct {
	field   string
	address bool // true if the field holds an address, which is cut to its network
}

// addressPrefix stands before the name of a field that holds an address.
const addressPrefix = "addr:"

// clientField is the name that stands for the address of the client.
const clientField = "ip"

// ParseKey reads the name of a field, or several joined with "+". A name behind
// "addr:" is of a field that holds an address.
func ParseKey(s string) (Key, error) {
	var k Key
	for name := range strings.SplitSeq(s, "+") {
		field, address := strings.CutPrefix(name, addressPrefix)
		if field == "" {
			return Key{}, fmt.Errorf("key %q: want a field, or several joined with \"+\": ip, user, method+path, addr:FIELD", s)
		}
		k.parts = append(k.parts, part{field, address})
	}
	return k, nil
}

// String returns the key in the form that [ParseKey] reads.
func (k Key) String() string {
	names := make([]string, len(k.parts))
	for i, p := range k.parts {
		names[i] = p.field
		if p.address {
			names[i] = addressPrefix + p.field
		}
	}
	return strings.Join(names, "+")
}

// Client reports whether a part of the key is the address of the client.
func (k Key) Client() bool {
	return slices.ContainsFunc(k.parts, func(p part) bool { return p.address || p.field == clientField })
}

// separate appends a separator to the key, if it has a part already.
func (e *Entry) separate() {
	if len(e.Key) > 0 {
		e.Key = append(e.Key, Separator)
	}
}
