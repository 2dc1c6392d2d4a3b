package logs

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
)

// csvRows parses the rows after a row of column names. Each line is a row.
// Because of that, a value that holds an end of line makes two lines, neither
// of which can be read.
type csvRows struct {
	clock     clock
	header    []byte
	separator byte
	at        namedField // field of the time
	atColumn  int        // index of its column
	key       []namedField
	columns   []int    // indices of the columns of the key
	count     int      // number of columns
	cells     [][]byte // values of the row, reused
}

// newCSV returns a parser for the columns that the first line of the sample
// names.
func newCSV(sample [][]byte, o Options) (parser, error) {
	c := &csvRows{header: sample[0]}
	c.separator = separatorOf(c.header)
	cells, err := splitRow(c.header, c.separator, nil)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(cells))
	for i, cell := range cells {
		names[i] = string(bytes.TrimSpace(cell))
	}
	c.count = len(names)
	if c.at, c.key, err = findFields(o, names); err != nil {
		return nil, err
	}
	c.atColumn = slices.Index(names, c.at.name)
	for _, f := range c.key {
		c.columns = append(c.columns, slices.Index(names, f.name))
	}
	return c, nil
}

// separatorOf returns the most frequent of comma, semicolon and tab in a row of
// names.
func separatorOf(header []byte) byte {
	return slices.MaxFunc([]byte(",;\t"), func(a, b byte) int {
		return bytes.Count(header, []byte{a}) - bytes.Count(header, []byte{b})
	})
}

// errHeader is the error for the row of column names, which is no request.
var errHeader = errors.New("the row of column names")

func (c *csvRows) parse(line []byte, e *Entry) error {
	if bytes.Equal(line, c.header) {
		return errHeader
	}
	cells, err := splitRow(line, c.separator, c.cells[:0])
	c.cells = cells
	if err != nil {
		return err
	}
	if len(cells) != c.count {
		return fmt.Errorf("%d values for %d columns", len(cells), c.count)
	}
	if err := c.clock.read(string(cells[c.atColumn]), e); err != nil {
		return err
	}
	e.HasKey = true
	for i, f := range c.key {
		e.addPart(i == 0, f.value(cells[c.columns[i]]))
	}
	return nil
}

// splitRow appends the values of a row to cells.
func splitRow(row []byte, separator byte, cells [][]byte) ([][]byte, error) {
	for {
		if len(row) > 0 && row[0] == '"' {
			cell, rest, err := quotedCell(row[1:])
			if err != nil {
				return cells, err
			}
			cells, row = append(cells, cell), rest
			if len(row) > 0 && row[0] != separator {
				return cells, errors.New("text behind a value in quotes")
			}
		} else {
			end := bytes.IndexByte(row, separator)
			if end < 0 {
				end = len(row)
			}
			cells, row = append(cells, row[:end]), row[end:]
		}
		if len(row) == 0 {
			return cells, nil
		}
		row = row[1:]
	}
}

// quotedCell reads a value up to the quote that ends it. Two quotes within it
// stand for one.
func quotedCell(row []byte) (cell, rest []byte, err error) {
	for end := 0; ; end += 2 {
		i := bytes.IndexByte(row[end:], '"')
		if i < 0 {
			return nil, nil, errors.New("the quotes around a value do not end")
		}
		end += i
		if end+1 == len(row) || row[end+1] != '"' {
			return bytes.ReplaceAll(row[:end], []byte(`""`), []byte(`"`)), row[end+1:], nil
		}
	}
}
