package logs

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
)

// envelope is a form in which a collector of logs writes the lines of a
// program: each with something before or around it.
type envelope struct {
	name   string
	isJSON bool // true if it is an object around a line
	// open returns the line inside, and its source: the program or the stream
	// that wrote it, as far as the envelope says. more is true if the line
	// continues in the next envelope of the source.
	open func(line []byte) (inner, source []byte, more, ok bool)
}

// envelopes are the known ones, in the order in which they are tried.
var envelopes = []envelope{
	{"docker", true, openDocker},
	{"journal", true, openJournal},
	{"kubectl", false, openKubectl},
	{"compose", false, openCompose},
	{"cri", false, openCRI},
	{"syslog", false, openSyslog},
	{"timestamps", false, openTimestamp},
}

// openDocker opens a line of a file of Docker's json-file driver, or of Fluent
// Bit, which writes the same field: {"log":"…\n","stream":"stdout","time":"…"}.
func openDocker(line []byte) (inner, source []byte, more, ok bool) {
	if !bytes.HasPrefix(line, []byte("{")) || !bytes.Contains(line, []byte(`"log"`)) {
		return nil, nil, false, false
	}
	var l struct {
		Log        *string
		Stream     string
		Kubernetes json.RawMessage
	}
	if json.Unmarshal(line, &l) != nil || l.Log == nil || l.Stream == "" && l.Kubernetes == nil {
		return nil, nil, false, false
	}
	text, whole := strings.CutSuffix(*l.Log, "\n")
	more = !whole && l.Kubernetes == nil && len(text) >= dockerPart
	return []byte(strings.TrimSuffix(text, "\r")), []byte(l.Stream), more, true
}

// dockerPart is the least length of a line that Docker writes in parts, in
// bytes: it cuts at 16 KiB.
const dockerPart = 8 << 10

// openJournal opens a line of journalctl -o json.
func openJournal(line []byte) (inner, source []byte, more, ok bool) {
	if !bytes.HasPrefix(line, []byte("{")) || !bytes.Contains(line, []byte(`"MESSAGE"`)) {
		return nil, nil, false, false
	}
	var l struct {
		Message *string `json:"MESSAGE"`
		Time    string  `json:"__REALTIME_TIMESTAMP"`
		Program string  `json:"SYSLOG_IDENTIFIER"`
	}
	if json.Unmarshal(line, &l) != nil || l.Message == nil || l.Time == "" {
		return nil, nil, false, false
	}
	return []byte(*l.Message), []byte(l.Program), false, true
}

// openKubectl opens a line of kubectl logs --prefix, which begins with the pod in
// brackets: [pod/x/y].
func openKubectl(line []byte) (inner, source []byte, more, ok bool) {
	if !bytes.HasPrefix(line, []byte("[pod/")) {
		return nil, nil, false, false
	}
	source, inner, ok = bytes.Cut(line, []byte("] "))
	return inner, source, false, ok
}

// openCompose opens a line of docker compose, which begins with the container
// and a bar: web-1  |.
func openCompose(line []byte) (inner, source []byte, more, ok bool) {
	end := bytes.IndexByte(line, ' ')
	if end <= 0 || !isName(line[:end]) {
		return nil, nil, false, false
	}
	inner, ok = bytes.CutPrefix(bytes.TrimLeft(line[end:], " "), []byte("|"))
	return bytes.TrimPrefix(inner, space), line[:end], false, ok
}

// openCRI opens a line of a container's file under Kubernetes: a time, the
// stream, F or P, and a line. P stands for a part of a line.
func openCRI(line []byte) (inner, source []byte, more, ok bool) {
	rest, ok := cutTimestamp(line)
	if !ok {
		return nil, nil, false, false
	}
	source, rest, _ = bytes.Cut(rest, space)
	if string(source) != "stdout" && string(source) != "stderr" {
		return nil, nil, false, false
	}
	tag, inner, _ := bytes.Cut(rest, space)
	tag, _, _ = bytes.Cut(tag, []byte(":"))
	return inner, source, string(tag) == "P", string(tag) == "P" || string(tag) == "F"
}

// openSyslog opens a line of syslog, by RFC 3164 or RFC 5424, with or without
// the number of its priority, and of journalctl:
//
//	<190>Mar 14 12:00:00 host program[1]: …
//	2026-03-14T12:00:00+0000 host program[1]: …
//	<190>1 2026-03-14T12:00:00Z host program 1 - - …
func openSyslog(line []byte) (inner, source []byte, more, ok bool) {
	rest, hasPriority := cutPriority(line)
	if hasPriority && bytes.HasPrefix(rest, []byte("1 ")) {
		return openSyslog5424(rest[2:])
	}
	rest, ok = cutSyslogTime(rest)
	if !ok {
		return nil, nil, false, false
	}
	if inner, source, ok = cutTag(rest); ok { // without a host
		return inner, source, false, true
	}
	_, rest, _ = bytes.Cut(rest, space)
	inner, source, ok = cutTag(rest)
	return inner, source, false, ok
}

// cutPriority cuts a number like <190>.
func cutPriority(line []byte) (rest []byte, ok bool) {
	if len(line) == 0 || line[0] != '<' {
		return line, false
	}
	end := bytes.IndexByte(line, '>')
	if end < 2 || end > 4 || !isNumber(line[1:end]) {
		return line, false
	}
	return line[end+1:], true
}

func isNumber(text []byte) bool {
	for _, b := range text {
		if !isDigit(b) {
			return false
		}
	}
	return len(text) > 0
}

// cutSyslogTime cuts a time like "Mar 14 12:00:00 " or RFC 3339.
func cutSyslogTime(line []byte) (rest []byte, ok bool) {
	if rest, ok := cutTimestamp(line); ok {
		return rest, true
	}
	if len(line) < 16 || line[3] != ' ' || line[6] != ' ' || line[9] != ':' || line[12] != ':' || !isLetter(line[0]) {
		return nil, false
	}
	end := 15
	if line[end] == '.' {
		for end++; end < len(line) && isDigit(line[end]); end++ {
		}
	}
	if end >= len(line) || line[end] != ' ' {
		return nil, false
	}
	return line[end+1:], true
}

func isLetter(b byte) bool { return b|0x20 >= 'a' && b|0x20 <= 'z' }

// cutTag cuts the name of a program and a colon, with or without the number of
// the process in brackets.
func cutTag(line []byte) (rest, program []byte, ok bool) {
	tag, rest, ok := bytes.Cut(line, space)
	if !ok || len(tag) < 2 || tag[len(tag)-1] != ':' {
		return nil, nil, false
	}
	program = tag[:len(tag)-1]
	if _, _, isAddress := parseAddress(program); isAddress {
		return nil, nil, false
	}
	program, _, _ = bytes.Cut(program, []byte("["))
	return rest, program, true
}

// openSyslog5424 opens a line behind the priority and the version: time, host,
// program, process, message, data, and the text.
func openSyslog5424(line []byte) (inner, source []byte, more, ok bool) {
	rest := line
	for field := range 5 {
		var word []byte
		if word, rest, ok = bytes.Cut(rest, space); !ok {
			return nil, nil, false, false
		}
		if field == 2 {
			source = word
		}
	}
	rest, ok = cutData(rest)
	return bytes.TrimPrefix(rest, []byte(byteOrderMark)), source, false, ok
}

// cutData cuts the data of RFC 5424: a hyphen, or blocks in brackets with texts
// in quotes.
func cutData(line []byte) (rest []byte, ok bool) {
	if rest, ok := bytes.CutPrefix(line, []byte("- ")); ok {
		return rest, true
	}
	quoted := false
	for i := 0; i < len(line); i++ {
		switch {
		case line[i] == '\\':
			i++
		case line[i] == '"':
			quoted = !quoted
		case line[i] == ']' && !quoted:
			if i+1 < len(line) && line[i+1] == ' ' {
				return line[i+2:], line[0] == '['
			}
		}
	}
	return nil, false
}

// openTimestamp opens a line with a time before it, as docker logs -t and
// kubectl logs --timestamps write.
func openTimestamp(line []byte) (inner, source []byte, more, ok bool) {
	inner, ok = cutTimestamp(line)
	return inner, nil, false, ok
}

// cutTimestamp cuts a time in RFC 3339, with or without a colon in its zone.
func cutTimestamp(line []byte) (rest []byte, ok bool) {
	word, rest, ok := bytes.Cut(line, space)
	return rest, ok && isTimestamp(word)
}

// isTimestamp reports whether a text has the form of RFC 3339, with or without
// a zone.
func isTimestamp(text []byte) bool {
	return len(text) >= 19 && len(text) <= 36 &&
		isDigit(text[0]) && text[4] == '-' && text[7] == '-' && text[10] == 'T' && text[13] == ':' && text[16] == ':'
}

// unwrapper opens the envelopes of the lines of a file, one inside the other.
type unwrapper struct {
	chain []envelope        // from the outside to the inside
	begun map[string][]byte // first parts of a line that is not whole yet, by source
}

// errPart is the error for a line that continues in the next one.
var errPart = errors.New("a part of a line")

// maxSources is the largest number of sources of one file that are told apart.
const maxSources = 1000

// open returns the line inside all envelopes, and its innermost source.
func (u *unwrapper) open(line []byte) (inner, source []byte, err error) {
	for _, e := range u.chain {
		opened, from, more, ok := e.open(line)
		if !ok {
			return line, source, errors.New("not in the envelope of " + e.name + ", as other lines are")
		}
		line = opened
		if len(from) > 0 {
			source = from
		}
		if line, err = u.joined(source, line, more); err != nil {
			return nil, source, err
		}
	}
	return line, source, nil
}

// joined returns a line with the parts of it before.
func (u *unwrapper) joined(source, line []byte, more bool) ([]byte, error) {
	before, continued := u.begun[string(source)]
	if !continued && !more {
		return line, nil
	}
	whole := slices.Concat(before, line)
	if len(whole) > maxLine {
		whole = whole[:maxLine]
	}
	if !more {
		delete(u.begun, string(source))
		return whole, nil
	}
	if u.begun == nil {
		u.begun = make(map[string][]byte)
	}
	if continued || len(u.begun) < maxSources {
		u.begun[string(source)] = whole
	}
	return nil, errPart
}

// unwrapped returns the lines of a sample without an envelope that at least
// half of them have, and that envelope. ok is false if there is none.
func unwrapped(sample [][]byte) (inner [][]byte, e envelope, ok bool) {
	for _, e := range envelopes {
		u := unwrapper{chain: []envelope{e}}
		opened := 0
		inner = inner[:0]
		for _, line := range sample {
			in, _, err := u.open(line)
			if err == nil {
				opened++
				if !blank(in) {
					inner = append(inner, bytes.Clone(in))
				}
			} else if errors.Is(err, errPart) {
				opened++
			}
		}
		if 2*opened >= len(sample) && len(inner) > 0 {
			return inner, e, true
		}
	}
	return nil, envelope{}, false
}
