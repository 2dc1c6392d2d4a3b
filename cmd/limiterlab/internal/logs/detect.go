package logs

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// format is a form of the lines of a log.
type format struct {
	name string
	help string // description, one line
	// open returns a splitter for a file that begins with the sample. It adds
	// columns to the record.
	open func(sample [][]byte, r *record) (splitter, error)
	// resembles reports whether a line that could not be split was meant to be
	// in the format, so that the reason of its splitter is the one to show. It
	// is nil for a format that is told by nothing but its splitter.
	resembles func(line []byte) bool
}

// splitter splits the lines of one file into values.
type splitter interface {
	// split sets the columns of r by a line.
	split(line []byte, r *record) error
}

// Names of the formats that tests and options use.
const (
	Combined = "combined"
	VHost    = "vhost"
	JSON     = "json"
	CSV      = "csv"
)

// formats are the known ones, in the order in which they are tried.
var formats = []format{
	{JSON, "JSON objects, one a line", simply(newJSON), resemblesJSON},
	{VHost, "combined with the name of the virtual host before it", simply(newVHost), nil},
	{Combined, "common or combined log format, as Apache and nginx write it", simply(newCombined), resemblesAccess},
	{"w3c", "rows behind a line \"#Fields: …\", as IIS and CloudFront write them", simply(newW3C), resemblesW3C},
	{"elb", "access logs of the load balancers of AWS (ALB, NLB, classic)", simply(newELB), resemblesELB},
	{"haproxy", "HTTP and TCP logs of HAProxy", simply(newHAProxy), nil},
	{"envoy", "the default text format of Envoy, or of Istio", simply(newEnvoy), func(line []byte) bool { return line[0] == '[' }},
	{"s3", "access logs of S3", simply(newS3), nil},
	{CSV, "a row of column names, then rows; separated by commas, semicolons or tabs", newCSV, func(line []byte) bool { return bytes.ContainsAny(line, ",;\t") }},
}

// simply makes open of a function that needs no sample.
func simply(open func(*record) splitter) func([][]byte, *record) (splitter, error) {
	return func(_ [][]byte, r *record) (splitter, error) { return open(r), nil }
}

func resemblesJSON(line []byte) bool {
	return line[0] == '{' || string(line) == "[" || bytes.HasPrefix(line, []byte("[{"))
}

func resemblesAccess(line []byte) bool {
	return bytes.Contains(line, []byte(" [")) && bytes.Contains(line, []byte(` "`))
}

// resemblesELB reports whether a line begins like one of a load balancer of AWS.
func resemblesELB(line []byte) bool {
	word, _, ok := bytes.Cut(line, space)
	return ok && (isALBType(word) || isTimestamp(word))
}

// resemblesW3C reports whether a line begins like one of IIS or CloudFront.
func resemblesW3C(line []byte) bool {
	return line[0] == '#' || len(line) > 19 && isDigit(line[0]) && line[4] == '-' && line[7] == '-' && (line[10] == ' ' || line[10] == '\t') && line[13] == ':'
}

// Formats are the names of the formats, in the order in which they are tried.
var Formats = func() (names []string) {
	for _, f := range formats {
		names = append(names, f.name)
	}
	return names
}()

// FormatsHelp describes each format, one a line.
var FormatsHelp = func() string {
	var b strings.Builder
	for _, f := range formats {
		fmt.Fprintf(&b, "  %-10s %s\n", f.name, f.help)
	}
	return b.String()
}()

// detected is the form of a file.
type detected struct {
	format
	chain []envelope
	inner [][]byte // first lines, without their envelopes
}

// describe returns the name of the format, with those of the envelopes.
func (d *detected) describe() string {
	names := []string{d.name}
	for _, e := range slices.Backward(d.chain) {
		names = append(names, e.name)
	}
	return strings.Join(names, " in ")
}

const maxChain = 3 // largest number of envelopes, one inside the other

// detect returns the format and the envelopes with which most lines of the
// sample can be split. If the options name a format, it is not doubted.
func detect(sample sample, o *Options) (detected, error) {
	var best detected
	most, first := 0, sample.lines[0]
	var chain []envelope
	for inner := sample.lines; ; {
		opened, e, enveloped := unwrapped(inner)
		for _, f := range formats {
			if o.Format != "" && f.name != o.Format || f.name == JSON && e.isJSON {
				continue
			}
			if n := splittable(f, inner, o); n > most {
				most, best = n, detected{f, chain, inner}
			}
		}
		if !enveloped || len(chain) == maxChain {
			break
		}
		chain, inner = append(slices.Clip(chain), e), opened
		if most == 0 {
			first = inner[0]
		}
	}
	if most > 0 {
		return best, nil
	}
	for _, f := range formats {
		if f.name == o.Format || o.Format == "" && f.resembles != nil && f.resembles(first) {
			return detected{}, notUnderstood(sample.first, first, reason(f, first, o))
		}
	}
	return detected{}, notUnderstood(sample.first, first, nil)
}

// splittable returns the number of lines in the sample that a format can split.
func splittable(f format, sample [][]byte, o *Options) int {
	r := newRecord(o)
	s, err := f.open(sample, r)
	if err != nil {
		return 0
	}
	n, header := 0, 0
	for _, line := range sample {
		r.begin()
		switch err := s.split(line, r); {
		case err == nil:
			n++
		case errors.Is(err, errHeader):
			header = 1
		}
	}
	n = max(n, header) // a file may have only names
	if f.name == CSV && o.Format == "" && !r.hasTime(o) {
		return 0 // a text with commas
	}
	return n
}

// reason returns the reason for which a format can't split a line.
func reason(f format, line []byte, o *Options) error {
	r := newRecord(o)
	s, err := f.open([][]byte{line}, r)
	if err != nil {
		return err
	}
	return s.split(line, r)
}

// notUnderstood returns the error for a file of which no line can be read.
func notUnderstood(number int, line []byte, why error) error {
	because := "it is in none of the formats"
	if why != nil && !errors.Is(why, errHeader) {
		because = why.Error()
	}
	return fmt.Errorf("%w: line %d: %s: %q. These are understood, also inside the lines of syslog, Docker, Kubernetes and compose:\n%s(-format names the format, -time-field the field of the time, -key addr:FIELD the field of the client)",
		ErrNotUnderstood, number, because, shorten(line), FormatsHelp)
}
