package redisstore

import (
	"bytes"
	"errors"
	"fmt"
)

// The largest sizes that a reply may claim. The largest useful replies are those of
// the fleet call (140 KiB), a hash of rules (1 MiB for ten thousand) and the slots
// of a Cluster (10 MiB if no two neighbours of the 16384 belong together).
const (
	maxReply = 16 << 20 // bytes that a client allocates for one reply, about
	maxLine  = 64 << 10 // bytes of a line, as in Redis itself
	maxDepth = 32       // nested aggregates, which a client reads by recursion
	perValue = 32       // bytes that a client allocates for each value of an aggregate before it arrives
	maxHead  = 16       // bytes of a line that claims a length, so that it fits in an int64
)

var errClaim = errors.New("limiter: redis: the server is no Redis, or a hostile one (check the address)")

// stream reads the replies of a server, in RESP2 or RESP3, as far as the lengths that
// they claim. It tells lines from payloads, and ignores the meaning of values. The
// zero stream is one at its beginning.
type stream struct {
	payload int           // bytes of a string still to come, with its line end
	line    int           // bytes of a line so far
	head    [maxHead]byte // the first bytes of the line
	open    [maxDepth]int // values still to come of each open aggregate
	depth   int           // number of open aggregates
	claimed int           // bytes claimed by this reply so far
}

// follow returns the number of bytes that may be passed on: all, unless there is an
// error. The end of a line that claims too much is never passed on.
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

// string begins a string: a payload of the length in its line, and a line end.
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

// aggregate begins an aggregate of the number of values in its line.
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

// value ends a value, and each aggregate that it completes.
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

// length returns the number of a line of size bytes: digits, or −1 for null. Any
// other form is an error, because another reader might take it for another number.
// Redis sends no streamed values ("?"), and go-redis reads none.
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
