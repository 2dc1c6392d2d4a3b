// Package logs reads requests from the logs of servers: common or combined log
// format, JSON objects one a line, or CSV. It keeps one line in memory at a
// time, for a log of any size.
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
}

// Separator is the byte between the parts of a key. Because values hardly ever
// hold this control character, different parts make different keys.
const Separator = '\x1f'

// Options are the format of a log and the fields to read from it.
type Options struct {
	Format    string // one of Formats; empty: detected from the first lines of each file
	TimeField string // JSON field or CSV column of the time; empty: the first of its usual names that the log has
	Key       Key
}

// Names of the formats.
const (
	Combined = "combined"
	VHost    = "vhost"
	JSON     = "json"
	CSV      = "csv"
)

// Formats are the names of the formats, in the order in which they are tried.
var Formats = []string{JSON, VHost, Combined, CSV}

// FormatsHelp describes each format, one a line.
const FormatsHelp = `  combined   common or combined log format, as Apache and nginx write it
  vhost      the same with the name of the virtual host before it
  json       JSON objects, one a line
  csv        a row of column names, then rows; separated by commas, semicolons or tabs
`

// ErrNotUnderstood is the error for an input of which no line could be read.
var ErrNotUnderstood = errors.New("no line could be read")

// FieldError is the error for a field that the log lacks. It lists the fields
// that the log has.
type FieldError struct {
	Field string // name in the options; empty for the time
	Has   []string
}

func (e *FieldError) Error() string {
	if e.Field == "" {
		return fmt.Sprintf("no field of the usual names holds the time: name it with -time-field; the log has %s", strings.Join(e.Has, ", "))
	}
	return fmt.Sprintf("the log has no field %q, but %s", e.Field, strings.Join(e.Has, ", "))
}

// parser reads the lines of one file.
type parser interface {
	// parse sets the fields of e by a line. It appends to the Key of e, which is
	// empty before.
	parse(line []byte, e *Entry) error
}

// Key names the fields of a request that make its key.
type Key struct{ parts []string }

// ParseKey reads the name of a field, or several joined with "+".
func ParseKey(s string) (Key, error) {
	parts := strings.Split(s, "+")
	if slices.Contains(parts, "") {
		return Key{}, fmt.Errorf("key %q: want a field, or several joined with \"+\": ip, user, method+path", s)
	}
	return Key{parts}, nil
}

// String returns the key in the form that [ParseKey] reads.
func (k Key) String() string { return strings.Join(k.parts, "+") }

// addPart appends a part of the key to e. An empty part, or the "-" that
// servers write for one, makes e a request without a key.
func (e *Entry) addPart(first bool, value []byte) {
	if len(value) == 0 || len(value) == 1 && value[0] == '-' {
		e.HasKey = false
		return
	}
	if !first {
		e.Key = append(e.Key, Separator)
	}
	e.Key = append(e.Key, value...)
}
