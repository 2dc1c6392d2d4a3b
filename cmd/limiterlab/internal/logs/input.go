package logs

import (
	"bufio"
	"compress/gzip"
	"fmt"
	"io"
	"os"
)

// Input is a log to be read, once or several times.
type Input struct {
	Name   string
	Size   int64     // bytes, when it was found; 0 where that is not known
	stream io.Reader // read in place of the file of that name
}

// Stdin is the name that stands for what a program is given to read.
const Stdin = "-"

// Find returns the inputs of the names, which must be there; none, or "-", is stdin.
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
		default: // a pipe gives what it gives once
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

// open returns what the input holds, unpacked. Of a file that grows it is what
// was there when it was found, so that every reading gives the same.
func (in Input) open(count *int64) (io.Reader, func(), error) {
	raw, closeFile := in.stream, func() {}
	if raw == nil {
		f, err := os.Open(in.Name)
		if err != nil {
			return nil, nil, err
		}
		raw, closeFile = io.LimitReader(f, in.Size), func() { _ = f.Close() } // it was only read
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

// counted counts the bytes that are read.
type counted struct {
	r io.Reader
	n *int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	*c.n += int64(n)
	return n, err
}
