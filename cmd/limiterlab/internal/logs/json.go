package logs

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
)

// jsonLines splits lines of one JSON object each. A name with dots is of a
// field inside another object: http.client_ip. One that ends in [] is of the
// first value of an array.
type jsonLines struct {
	r    *record
	path []byte // name of the field, while a line is split
}

func newJSON(r *record) splitter { return &jsonLines{r: r} }

const maxDepth = 5 // largest number of objects around a field that is named

func (j *jsonLines) split(line []byte, _ *record) error {
	line = bytes.TrimSpace(line)
	if len(line) == 0 || line[0] != '{' || !json.Valid(line) {
		return notJSON(line)
	}
	j.path = j.path[:0]
	j.object(line, 0)
	return nil
}

// notJSON describes the fault of a line that is not one JSON object.
func notJSON(line []byte) error {
	if !bytes.ContainsAny(line, `{["`) && !resemblesRequest(line) {
		return otherLine("a text among JSON objects")
	}
	if len(line) > 0 && line[0] == '[' {
		return errors.New("no JSON object, but an array: write each object on a line of its own (jq -c '.[]')")
	}
	var v map[string]json.RawMessage
	if err := json.Unmarshal(line, &v); err != nil {
		return errors.New("no JSON object on one line: " + strings.TrimPrefix(err.Error(), "json: "))
	}
	return errors.New("no JSON object")
}

// object sets the columns of an object that begins the text, which is valid. It
// returns the length of the object.
func (j *jsonLines) object(text []byte, depth int) int {
	length := len(j.path)
	i := skipSpace(text, 1)
	for text[i] != '}' {
		if text[i] == ',' {
			i = skipSpace(text, i+1)
		}
		name := text[i : i+stringLength(text[i:])]
		i = skipSpace(text, i+len(name))
		i = skipSpace(text, i+1) // the colon
		if length > 0 {
			j.path = append(j.path, '.')
		}
		j.path = append(j.path, unquoted(name)...)
		i += j.value(text[i:], depth+1)
		j.path = j.path[:length]
		i = skipSpace(text, i)
	}
	return i + 1
}

// value sets the columns of a value that begins the text, and returns its
// length.
func (j *jsonLines) value(text []byte, depth int) int {
	switch {
	case text[0] == '{' && depth <= maxDepth:
		return j.object(text, depth)
	case text[0] == '[' && depth <= maxDepth:
		return j.array(text, depth)
	}
	length := valueLength(text)
	if text[0] != '{' && text[0] != '[' {
		j.set(text[:length])
	}
	return length
}

// array sets the columns of the first value of an array, and of headers in the
// form {"name":"X-Forwarded-For","value":"…"}.
func (j *jsonLines) array(text []byte, depth int) int {
	length := len(j.path)
	i := skipSpace(text, 1)
	for first := true; text[i] != ']'; first = false {
		if text[i] == ',' {
			i = skipSpace(text, i+1)
		}
		n := valueLength(text[i:])
		switch value := text[i : i+n]; {
		case value[0] == '{':
			if first {
				j.r.named(append(j.path, "[]"...))
			}
			j.header(value)
		case first:
			j.path = append(j.path, "[]"...)
			j.value(value, depth+1)
		}
		j.path = j.path[:length]
		i = skipSpace(text, i+n)
	}
	return i + 1
}

// header sets the column of a header in an array.
func (j *jsonLines) header(value []byte) {
	var h struct{ Name, Value *string }
	if json.Unmarshal(value, &h) != nil || h.Name == nil || h.Value == nil {
		return
	}
	j.path = append(append(j.path, '.'), *h.Name...)
	if c := j.r.column(j.path); c >= 0 {
		j.r.set(c, []byte(*h.Value))
	}
}

// set sets the column of the path, if its values are used.
func (j *jsonLines) set(raw []byte) {
	c := j.r.named(j.path)
	if c < 0 || !j.r.columns[c].wanted {
		return
	}
	switch {
	case raw[0] == '"':
		raw = unquoted(raw)
	case raw[0] == 'n': // null
		raw = nil
	}
	j.r.set(c, raw)
}

// unquoted returns the text of a JSON string.
func unquoted(raw []byte) []byte {
	if bytes.IndexByte(raw, '\\') < 0 {
		return raw[1 : len(raw)-1]
	}
	var s string
	_ = json.Unmarshal(raw, &s) // it is valid
	return []byte(s)
}

func skipSpace(text []byte, i int) int {
	for i < len(text) && (text[i] == ' ' || text[i] == '\t' || text[i] == '\n' || text[i] == '\r') {
		i++
	}
	return i
}

// stringLength returns the length of the string that begins the text, with its
// quotes.
func stringLength(text []byte) int { return quoteEnd(text[1:]) + 2 }

// valueLength returns the length of the JSON value that begins the text.
func valueLength(text []byte) int {
	switch text[0] {
	case '"':
		return stringLength(text)
	case '{', '[':
	default:
		if end := bytes.IndexAny(text, ",]} \t\r\n"); end >= 0 {
			return end
		}
		return len(text)
	}
	depth := 0
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '"':
			i += stringLength(text[i:]) - 1
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	return len(text)
}
