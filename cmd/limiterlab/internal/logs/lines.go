package logs

import (
	"bufio"
	"bytes"
	"errors"
	"io"
)

const (
	maxLine    = 1 << 20  // bytes; longer lines are skipped
	sampleSize = 64 << 10 // bytes of a file from which its format is detected
	maxSample  = 100      // lines of a sample
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

// sample returns the first lines that are not empty, without consuming them.
func (l lines) sample() [][]byte {
	head, err := l.r.Peek(sampleSize)
	if err == nil && bytes.IndexByte(head, '\n') < 0 {
		head, err = l.r.Peek(maxLine)
	}
	if err == nil { // there is more, and the last line may not be whole
		if end := bytes.LastIndexByte(head, '\n'); end >= 0 {
			head = head[:end]
		}
	}
	var sample [][]byte
	for line := range bytes.Lines(head) {
		if line = trimEnd(line); !blank(line) && len(sample) < maxSample {
			sample = append(sample, bytes.Clone(line))
		}
	}
	return sample
}

func trimEnd(line []byte) []byte {
	line = bytes.TrimSuffix(line, []byte("\n"))
	return bytes.TrimSuffix(line, []byte("\r"))
}

func blank(line []byte) bool { return len(bytes.TrimSpace(line)) == 0 }
