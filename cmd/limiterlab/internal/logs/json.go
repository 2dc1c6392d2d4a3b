package logs

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// object is a JSON object whose values are decoded when they are needed.
type object map[string]json.RawMessage

// jsonLines parses lines of one JSON object each. A name with dots means a
// field inside another object: http.client_ip.
type jsonLines struct {
	clock clock
	at    namedField // field of the time
	key   []namedField
	line  object
}

// newJSON returns a parser for the fields that the objects of the sample have.
func newJSON(sample [][]byte, o Options) (parser, error) {
	names := make(map[string]bool)
	for _, line := range sample {
		var obj object
		if json.Unmarshal(line, &obj) == nil {
			obj.addNames("", names)
		}
	}
	if len(names) == 0 {
		return nil, errors.New("no JSON object in the first lines")
	}
	at, key, err := findFields(o, slices.Sorted(maps.Keys(names)))
	return &jsonLines{at: at, key: key}, err
}

// addNames adds the names of the fields to names. In place of an object it adds
// the fields inside, down to maxDepth.
func (o object) addNames(prefix string, names map[string]bool) {
	for name, raw := range o {
		var inner object
		if raw[0] == '{' && strings.Count(prefix, ".") < maxDepth && json.Unmarshal(raw, &inner) == nil {
			inner.addNames(prefix+name+".", names)
		} else {
			names[prefix+name] = true
		}
	}
}

const maxDepth = 5 // largest number of objects around a field that is named

func (j *jsonLines) parse(line []byte, e *Entry) error {
	clear(j.line)
	if err := json.Unmarshal(line, &j.line); err != nil {
		return fmt.Errorf("no JSON object: %w", err)
	}
	at, ok := j.line.text(j.at.name)
	if !ok {
		return fmt.Errorf("no field %q for the time", j.at.name)
	}
	if err := j.clock.read(string(at), e); err != nil {
		return err
	}
	e.HasKey = true
	for i, f := range j.key {
		text, _ := j.line.text(f.name)
		e.addPart(i == 0, f.value(text))
	}
	return nil
}

// text returns a field that holds a text, a number or a boolean, and false for
// any other.
func (o object) text(name string) ([]byte, bool) {
	raw, ok := o[name]
	if !ok {
		return o.innerText(name)
	}
	if raw[0] == '"' {
		if bytes.IndexByte(raw, '\\') < 0 {
			return raw[1 : len(raw)-1], true
		}
		var s string
		err := json.Unmarshal(raw, &s)
		return []byte(s), err == nil
	}
	if raw[0] == '{' || raw[0] == '[' || bytes.Equal(raw, []byte("null")) {
		return nil, false
	}
	return raw, true
}

// innerText returns a field inside another object, by the dots of its name.
func (o object) innerText(name string) ([]byte, bool) {
	outer, rest, ok := strings.Cut(name, ".")
	if !ok {
		return nil, false
	}
	var inner object
	if json.Unmarshal(o[outer], &inner) != nil {
		return nil, false
	}
	return inner.text(rest)
}
