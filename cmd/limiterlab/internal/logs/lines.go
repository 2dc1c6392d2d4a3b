package logs

import (
	"bufio"
	"bytes"
	"errors"
	"io"
)

const (
	maxLine   = 1 << 20 // bytes; longer lines are skipped
	maxSample = 2000    // lines from which the format of a file is detected
)

// lines reads lines of bounded length.
type lines struct{ r *bufio.Reader }

// byteOrderMark is the mark at the beginning of some UTF-8 files.
const byteOrderMark = "\xef\xbb\xbf"

func newLines(r io.Reader) lines {
	l := lines{bufio.NewReaderSize(r, maxLine)}
	if begin, _ := l.r.Peek(len(byteOrderMark)); string(begin) == byteOrderMark {
		_, _ = l.r.Discard(len(byteOrderMark)) // it is in the buffer after Peek, so this cannot fail
	}
	return l
}

// next returns a line without its end, valid until the next call. If the line
// is too long, it returns the beginning. Text after the last end of line counts
// as a line, unless an error cut it off.
func (l lines) next() (line []byte, tooLong bool, err error) {
	line, err = l.r.ReadSlice('\n')
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		begin := bytes.Clone(line[:exampleLength+1])
		return begin, true, l.skip()
	case err == nil, errors.Is(err, io.EOF) && len(line) > 0:
		return trimEnd(line), false, nil
	}
	return nil, false, err
}

// skip reads up to the end of the line.
func (l lines) skip() error {
	for {
		_, err := l.r.ReadSlice('\n')
		switch {
		case err == nil, errors.Is(err, io.EOF):
			return nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return err
		}
	}
}

// sample is the beginning of a file.
type sample struct {
	lines [][]byte // lines that are not empty
	first int      // number of the first of them, from 1
}

// sample returns the first lines, without consuming them.
func (l lines) sample() (s sample) {
	head, err := l.r.Peek(maxLine)
	if err == nil { // there is more, and the last line may not be whole
		if end := bytes.LastIndexByte(head, '\n'); end >= 0 {
			head = head[:end]
		}
	}
	number := 0
	for line := range bytes.Lines(head) {
		number++
		if line = trimEnd(line); blank(line) || len(s.lines) == maxSample {
			continue
		}
		if s.first == 0 {
			s.first = number
		}
		s.lines = append(s.lines, bytes.Clone(line))
	}
	return s
}

func trimEnd(line []byte) []byte {
	line = bytes.TrimSuffix(line, []byte("\n"))
	return bytes.TrimSuffix(line, []byte("\r"))
}

func blank(line []byte) bool { return len(bytes.TrimSpace(line)) == 0 }
