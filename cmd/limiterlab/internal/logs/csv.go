package logs

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
)

// csvRows splits the rows after a row of column names. Each line is a row.
// Because of that, a value that holds an end of line makes two lines, neither
// of which can be read.
type csvRows struct {
	header    []byte
	separator byte
	columns   []int
	cells     [][]byte // values of the row, reused
}

// newCSV returns a splitter for the columns that the first line of the sample
// names.
func newCSV(sample [][]byte, r *record) (splitter, error) {
	c := &csvRows{header: sample[0]}
	c.separator = separatorOf(c.header)
	cells, err := splitRow(c.header, c.separator, nil)
	if err != nil {
		return nil, err
	}
	for _, cell := range cells {
		name := bytes.TrimSpace(cell)
		if err := checkName(name, r); err != nil {
			return nil, err
		}
		c.columns = append(c.columns, r.named(name))
	}
	return c, nil
}

// checkName returns an error if the first row seems to be no row of names.
func checkName(name []byte, r *record) error {
	var c clock
	var e Entry
	_, _, isAddress := parseAddress(name)
	if isAddress || c.read(name, &e) == nil {
		return fmt.Errorf("the first row must have the names of the columns, but it has the value %q", shorten(name))
	}
	if _, twice := r.index[string(name)]; twice && len(name) > 0 {
		return fmt.Errorf("two columns have the name %q", shorten(name))
	}
	return nil
}

// separatorOf returns the most frequent of comma, semicolon and tab in a row of
// names.
func separatorOf(header []byte) byte {
	return slices.MaxFunc([]byte(",;\t"), func(a, b byte) int {
		return bytes.Count(header, []byte{a}) - bytes.Count(header, []byte{b})
	})
}

func (c *csvRows) split(line []byte, r *record) error {
	if bytes.Equal(line, c.header) {
		return errHeader
	}
	cells, err := splitRow(line, c.separator, c.cells[:0])
	c.cells = cells
	if err != nil {
		return err
	}
	if len(cells) != len(c.columns) {
		return fmt.Errorf("%d values for %d columns", len(cells), len(c.columns))
	}
	for i, column := range c.columns {
		if column >= 0 {
			r.set(column, cells[i])
		}
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
