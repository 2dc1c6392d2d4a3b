package logs

import (
	"fmt"
	"slices"
)

// newParser returns the parser of a file that begins with the sample, and the
// name of its format. It detects the format if the options name none.
func newParser(sample [][]byte, o Options) (parser, string, error) {
	format := o.Format
	if format == "" {
		format = detect(sample, o.TimeField)
	}
	if format == "" {
		return nil, "", notUnderstood(sample[0])
	}
	p, err := parserOf(format, sample, o)
	return p, format, err
}

func notUnderstood(line []byte) error {
	return fmt.Errorf("%w: it begins with %q, and is in none of the formats\n%s(-format names the format, -time-field the field that holds the time)",
		ErrNotUnderstood, shorten(line), FormatsHelp)
}

func parserOf(format string, sample [][]byte, o Options) (parser, error) {
	switch format {
	case JSON:
		return newJSON(sample, o)
	case CSV:
		return newCSV(sample, o)
	case Combined, VHost:
		return newAccess(o.Key, format == VHost)
	}
	return nil, fmt.Errorf("there is no format %q", format)
}

// detect returns the format in which most lines of the sample can be read, or
// "" for none. If no format can read any line, lines that all begin with { are
// JSON. Because of that, the error names the fields of the log.
func detect(sample [][]byte, timeField string) string {
	best, most := "", 0
	for _, format := range Formats {
		p, err := parserOf(format, sample, Options{TimeField: timeField})
		if err != nil {
			continue
		}
		if n := readable(p, sample); n > most {
			best, most = format, n
		}
	}
	if best == "" && looksLikeJSON(sample) {
		return JSON
	}
	return best
}

func looksLikeJSON(sample [][]byte) bool {
	return !slices.ContainsFunc(sample, func(line []byte) bool { return line[0] != '{' })
}

// readable returns the number of lines in the sample that a parser can read.
func readable(p parser, sample [][]byte) int {
	n := 0
	for _, line := range sample {
		var e Entry
		if p.parse(line, &e) == nil {
			n++
		}
	}
	return n
}
