package logs

import (
	"bufio"
	"compress/gzip"
	"fmt"
	"io"
	"os"
)

// Input is a log to read, once or several times.
type Input struct {
	Name   string
	Size   int64     // bytes when it was found; 0 if unknown
	stream io.Reader // source in place of the file of that name; can be read once
}

// Stdin is the name that stands for the standard input.
const Stdin = "-"

// Find returns the inputs with the given names, which must exist. No name at
// all, or "-", means stdin.
func Find(names []string, stdin io.Reader) ([]Input, error) {
	if len(names) == 0 {
		names = []string{Stdin}
	}
	var inputs []Input
	for _, name := range names {
		if name == Stdin {
			inputs = append(inputs, Input{Name: "stdin", stream: stdin})
			continue
		}
		info, err := os.Stat(name)
		switch {
		case err != nil:
			return nil, err
		case info.IsDir():
			return nil, fmt.Errorf("%s is a folder", name)
		case info.Mode().IsRegular():
			inputs = append(inputs, Input{Name: name, Size: info.Size()})
		default: // a pipe can be read only once
			f, err := os.Open(name)
			if err != nil {
				return nil, err
			}
			inputs = append(inputs, Input{Name: name, stream: f})
		}
	}
	return inputs, nil
}

// Again reports whether all inputs can be read another time.
func Again(inputs []Input) bool {
	for _, in := range inputs {
		if in.stream != nil {
			return false
		}
	}
	return true
}

// open returns the content of the input, unpacked. Of a file that grows, it
// returns only the part that was there when it was found. Because of that,
// every reading gives the same lines.
func (in Input) open(count *int64) (io.Reader, func(), error) {
	raw, closeFile := in.stream, func() {}
	if raw == nil {
		f, err := os.Open(in.Name)
		if err != nil {
			return nil, nil, err
		}
		raw, closeFile = io.LimitReader(f, in.Size), func() { _ = f.Close() } // closing a file that was only read loses nothing
	}
	buffered := bufio.NewReaderSize(&counted{raw, count}, 256<<10)
	if magic, _ := buffered.Peek(2); string(magic) != "\x1f\x8b" {
		return buffered, closeFile, nil
	}
	unpacked, err := gzip.NewReader(buffered)
	if err != nil {
		closeFile()
		return nil, nil, err
	}
	return unpacked, closeFile, nil
}

// counted adds the bytes read from r to n.
type counted struct {
	r io.Reader
	n *int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	*c.n += int64(n)
	return n, err
}
