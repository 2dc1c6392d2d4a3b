package limits

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"unicode/utf8"

	"github.com/redis/go-redis/v9"
)

// Source returns all rules at present. It is called by one goroutine at a time, and
// should return when ctx is done. If it does not, its result is ignored, and it is
// not called again until it returns.
type Source func(ctx context.Context) ([]Rule, error)

// File returns a Source that reads a file, a JSON object of strings, in UTF-8 with or
// without a byte order mark. Replace the file
// as a whole: write another file, then rename it. A half-written file is an error
// until the next read.
func File(path string) Source {
	return func(context.Context) ([]Rule, error) {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("limits: %w", err)
		}
		return readObject(path, data)
	}
}

// Hash returns a Source that reads a hash in Redis: HSET limits 'user:*' '10/s burst
// 50'. The client may be the limiter's; a user of Redis needs %R~limits +hgetall.
func Hash(client redis.UniversalClient, name string) Source {
	return func(ctx context.Context) ([]Rule, error) {
		var hash *redis.MapStringStringCmd
		// By itself, the command would have a Cluster client call COMMAND, a right more.
		_, err := client.Pipelined(ctx, func(p redis.Pipeliner) error {
			hash = p.HGetAll(ctx, name)
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("limits: hash %q: %w", name, err)
		}
		fields := hash.Val()
		if len(fields) == 0 {
			return nil, fmt.Errorf("limits: hash %q: there is none", name)
		}
		var rules []Rule
		for _, field := range slices.Sorted(maps.Keys(fields)) {
			rules = append(rules, Rule{Pattern: field, Limit: fields[field], Place: fmt.Sprintf("hash %q", name)})
		}
		return rules, nil
	}
}

// byteOrderMark is the beginning of texts in UTF-8 that some editors write.
var byteOrderMark = []byte("\xef\xbb\xbf")

// readObject reads a JSON object token by token, because decoding it into a map would
// hide lines and duplicates.
func readObject(name string, data []byte) ([]Rule, error) {
	data = bytes.TrimPrefix(data, byteOrderMark)
	if err := checkText(name, data); err != nil {
		return nil, err
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	place := func() string {
		return fmt.Sprintf("%s:%d", name, 1+bytes.Count(data[:min(int(dec.InputOffset()), len(data))], []byte("\n")))
	}
	rules, err := readRules(dec, place)
	if err == nil {
		err = readEnd(dec)
	}
	if err == nil && len(rules) == 0 {
		err = errors.New(`no limit for "*", all keys`)
	}
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return nil, fmt.Errorf("limits: %s: ends too early", place())
	case err != nil:
		return nil, fmt.Errorf("limits: %s: %w", place(), err)
	}
	return rules, nil
}

// checkText returns an error for the first line that is not UTF-8, because the decoder
// would change its text.
func checkText(name string, data []byte) error {
	for i, line := range bytes.Split(data, []byte("\n")) {
		if !utf8.Valid(line) {
			return fmt.Errorf("limits: %s:%d: not UTF-8", name, i+1)
		}
	}
	return nil
}

func readRules(dec *json.Decoder, place func() string) ([]Rule, error) {
	var rules []Rule
	if begin, err := dec.Token(); err != nil {
		return nil, err
	} else if begin != json.Delim('{') {
		return nil, errors.New("want one JSON object")
	}
	for dec.More() {
		pattern, err := dec.Token()
		if err != nil {
			return nil, err
		}
		limit, err := dec.Token()
		if err != nil {
			return nil, err
		}
		text, ok := limit.(string)
		if !ok {
			return nil, fmt.Errorf("%q: want a limit in quotes", pattern)
		}
		rules = append(rules, Rule{Pattern: pattern.(string), Limit: text, Place: place()})
	}
	_, err := dec.Token() // the closing brace
	return rules, err
}

// readEnd returns an error unless the object ends the text.
func readEnd(dec *json.Decoder) error {
	switch _, err := dec.Token(); {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		return err
	}
	return errors.New("something follows the object")
}
