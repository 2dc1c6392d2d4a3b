package redisstore

import (
	"bytes"
	"errors"
	"fmt"
)

// What a server may claim. The largest replies that a limiter's client has a
// use for are a fleet call's (140 KiB), the rules of limits.Hash (1 MiB holds ten
// thousand) and the slots of a Cluster (10 MiB where each of the 16384 is apart
// from its neighbours).
const (
	maxReply = 16 << 20 // bytes that one reply has a client allocate, about
	maxLine  = 64 << 10 // bytes of a line; Redis itself takes none that is longer
	maxDepth = 32       // aggregates within one another; a client descends by recursion
	perValue = 32       // bytes that a client allocates for each value of an aggregate, before it comes
	maxHead  = 16       // bytes of a line that claims a length: no more than fit in an int64
)

var errClaim = errors.New("limiter: redis: what answers is no Redis, or a hostile one (check the address)")

// stream follows what a server says, in RESP2 or RESP3, just enough to see each
// length that it claims. It knows values from lines and payloads, and nothing of
// what they mean. The zero stream is one at its beginning.
type stream struct {
	payload int           // bytes of a string still to come, with those that end it
	line    int           // bytes of a line so far
	head    [maxHead]byte // the first of them
	open    [maxDepth]int // values still to come of the aggregates under way
	depth   int           // how many are
	claimed int           // bytes by this reply, so far
}

// follow returns how many bytes may be passed on: all, unless there is an error.
// A line that claims too much is never passed on to its end.
func (s *stream) follow(p []byte) (n int, err error) {
	for n < len(p) {
		if s.payload > 0 {
			skip := min(s.payload, len(p)-n)
			n += skip
			s.payload -= skip
			if s.payload == 0 {
				s.value()
			}
			continue
		}
		if err := s.next(p[n]); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// next takes the next byte of a line.
func (s *stream) next(b byte) error {
	if s.line < maxHead {
		s.head[s.line] = b
	}
	s.line++
	switch {
	case b == '\n':
		return s.endLine()
	case s.line > maxLine:
		return fmt.Errorf("%w: a line of more than %d bytes", errClaim, maxLine)
	}
	return nil
}

func (s *stream) endLine() error {
	size := s.line
	s.line = 0
	if err := s.claim(size); err != nil {
		return err
	}
	switch kind := s.head[0]; kind {
	case '$', '=', '!':
		return s.string(size)
	case '*', '~', '>', '%', '|':
		return s.aggregate(kind, size)
	}
	s.value()
	return nil
}

// string begins what is followed by as many bytes as its line says, and a line's end.
func (s *stream) string(size int) error {
	n, err := s.length(size)
	if err != nil {
		return err
	}
	if n < 0 {
		s.value()
		return nil
	}
	s.payload = n + len("\r\n")
	return s.claim(s.payload)
}

// aggregate begins what is followed by as many values as its line says.
func (s *stream) aggregate(kind byte, size int) error {
	n, err := s.length(size)
	switch {
	case err != nil:
		return err
	case kind == '%':
		n *= 2
	case kind == '|' && n >= 0:
		n = 2*n + 1 // and the value that the attribute is of
	}
	switch {
	case n <= 0:
		s.value()
		return nil
	case s.depth == maxDepth:
		return fmt.Errorf("%w: values %d deep", errClaim, maxDepth+1)
	}
	s.open[s.depth] = n
	s.depth++
	return s.claim(n * perValue)
}

// value notes that one is complete, and with it perhaps those around it.
func (s *stream) value() {
	for s.depth > 0 {
		left := &s.open[s.depth-1]
		*left--
		if *left > 0 {
			return
		}
		s.depth--
	}
	s.claimed = 0
}

// length reads the number of a line of so many bytes: digits, or −1 for null.
// Nothing else is: what two readers may take for two numbers can't be followed.
// Streamed values ("?") are none that a Redis sends, or that go-redis reads.
func (s *stream) length(size int) (int, error) {
	line := s.head[:min(size, maxHead)]
	text, whole := bytes.CutSuffix(line[1:], []byte("\r\n"))
	switch {
	case !whole || size > maxHead || len(text) == 0:
		return 0, fmt.Errorf("%w: %q for a length", errClaim, line)
	case string(text) == "-1":
		return -1, nil
	}
	n := int64(0)
	for _, c := range text {
		if c < '0' || c > '9' {
			return 0, fmt.Errorf("%w: %q for a length", errClaim, line)
		}
		n = 10*n + int64(c-'0')
	}
	if n > maxReply {
		return 0, fmt.Errorf("%w: %q: more than %d", errClaim, line, maxReply)
	}
	return int(n), nil
}

func (s *stream) claim(n int) error {
	s.claimed += n
	if s.claimed > maxReply {
		return fmt.Errorf("%w: a reply of more than %d bytes", errClaim, maxReply)
	}
	return nil
}
