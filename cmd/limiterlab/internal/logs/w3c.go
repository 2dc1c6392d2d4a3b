package logs

import (
	"bytes"
	"errors"
	"fmt"
)

// w3cRows splits the rows of the extended log format of W3C, as IIS and
// CloudFront write it. A line "#Fields: date time c-ip …" names the columns of
// those behind it, and may come again.
type w3cRows struct {
	columns []int
	cells   [][]byte // values of the row, reused
}

func newW3C(*record) splitter { return &w3cRows{} }

// rewind forgets the names of the columns. Rows before the first line of names
// can't be read.
func (w *w3cRows) rewind() { w.columns = nil }

var fieldsDirective = []byte("#Fields:")

func (w *w3cRows) split(line []byte, r *record) error {
	if line[0] == '#' {
		if names, ok := bytes.CutPrefix(line, fieldsDirective); ok {
			w.columns = w.columns[:0]
			for name := range bytes.FieldsSeq(names) {
				w.columns = append(w.columns, r.named(name))
			}
		}
		return errHeader
	}
	if len(w.columns) == 0 {
		return errors.New("no line \"#Fields: …\" before it names the columns")
	}
	if bytes.IndexByte(line, '\t') >= 0 {
		w.cells = w.cells[:0]
		for cell := range bytes.SplitSeq(line, []byte("\t")) {
			w.cells = append(w.cells, cell)
		}
	} else {
		w.cells = splitTokens(bytes.TrimSpace(line), w.cells[:0])
	}
	if len(w.cells) != len(w.columns) {
		return fmt.Errorf("%d values for the %d columns of the line \"#Fields: …\" before it", len(w.cells), len(w.columns))
	}
	for i, column := range w.columns {
		if column >= 0 {
			r.set(column, bytes.Trim(w.cells[i], `"`))
		}
	}
	return nil
}

// splitTokens appends the words of a line to tokens. A text in quotes or in
// brackets is one word, and keeps them.
func splitTokens(line []byte, tokens [][]byte) [][]byte {
	for {
		line = bytes.TrimLeft(line, " ")
		if len(line) == 0 {
			return tokens
		}
		closed := 0 // length of the text in quotes or brackets
		switch line[0] {
		case '"':
			closed = quoteEnd(line[1:]) + 2
		case '[':
			closed = bytes.IndexByte(line, ']') + 1
		}
		if closed < 2 {
			closed = 0
		}
		length := bytes.IndexByte(line[closed:], ' ')
		if length < 0 {
			return append(tokens, line)
		}
		tokens, line = append(tokens, line[:closed+length]), line[closed+length:]
	}
}
