// Package logs reads requests from logs of servers: lines in common or combined
// log format, JSON objects one a line, or CSV. It keeps one line in memory at a
// time, whatever the size of a log.
package logs

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Entry is what a line says of a request.
type Entry struct {
	At     int64  // nanoseconds since 1970
	Offset int    // seconds east of UTC that the line gives its time in
	Whole  bool   // the time has no fraction of a second
	Key    []byte // valid until the next line; parts are separated by [Separator]
	HasKey bool   // false where the line lacks a part of the key
}

// Separator stands between the parts of a key: no two keys become one because
// a value holds what separates them.
const Separator = '\x1f'

// Options say how to read a log.
type Options struct {
	Format    string // one of Formats; empty: found out from the first lines of each file
	TimeField string // of JSON and CSV; empty: the first that is there of a few usual names
	Key       Key
}

// Names of the formats.
const (
	Combined = "combined"
	VHost    = "vhost"
	JSON     = "json"
	CSV      = "csv"
)

// Formats are the formats that can be read, in the order in which they are tried.
var Formats = []string{JSON, VHost, Combined, CSV}

// FormatsHelp says of each what it is, one a line.
const FormatsHelp = `  combined   common or combined log format, as Apache and nginx write it
  vhost      the same with the name of the virtual host before it
  json       JSON objects, one a line
  csv        a row of column names, then rows; separated by commas, semicolons or tabs
`

// ErrNotUnderstood says that no line could be read.
var ErrNotUnderstood = errors.New("no line could be read")

// FieldError says that the log lacks a field that was asked for, and which it has.
type FieldError struct {
	Field string
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
	// parse fills e, whose Key is empty and may be appended to.
	parse(line []byte, e *Entry) error
}

// Key says which fields of a request make its key.
type Key struct{ parts []string }

// ParseKey reads a key: a field, or several joined with "+".
func ParseKey(s string) (Key, error) {
	parts := strings.Split(s, "+")
	if slices.Contains(parts, "") {
		return Key{}, fmt.Errorf("key %q: want a field, or several joined with \"+\": ip, user, method+path", s)
	}
	return Key{parts}, nil
}

// String returns the key as [ParseKey] reads it.
func (k Key) String() string { return strings.Join(k.parts, "+") }

// addPart appends a part of the key to e; an empty one, or the "-" that servers
// write for nothing, makes it a request without a key.
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
