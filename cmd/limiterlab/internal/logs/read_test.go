package logs

import (
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-e56e777b/limiter/internal/longtest"
)

const (
	lineA = `1.1.1.1 - - [14/Mar/2026:13:50:00 +0100] "GET / HTTP/1.1" 200 1`
	lineB = `2.2.2.2 - - [14/Mar/2026:13:50:01 +0100] "GET / HTTP/1.1" 200 1`
)

// TestFewUnreadableLinesAreNoFault: at most one in ten lines of a file may be
// unreadable.
func TestFewUnreadableLinesAreNoFault(t *testing.T) {
	for lines, want := range map[int]string{9: "", 8: "1 of 9 lines could not be read, more than one in 10; the first is line 9: no time in brackets: \"x\""} {
		_, c, err := read(t, strings.Repeat(lineA+"\n", lines)+"x\n")
		require.Equal(t, 1, c.Unparsed)
		if want == "" {
			require.NoError(t, err)
		} else {
			require.ErrorContains(t, err, want)
		}
	}
}

// read writes files of the given contents, reads them by the key ip, and
// returns the keys.
func read(t *testing.T, contents ...string) (keys []string, c Counts, err error) {
	var names []string
	for i, content := range contents {
		name := filepath.Join(t.TempDir(), string(rune('a'+i))+".log")
		require.NoError(t, os.WriteFile(name, []byte(content), 0o600))
		names = append(names, name)
	}
	inputs, err := Find(names, nil)
	require.NoError(t, err)
	c, err = Read(t.Context(), inputs, Options{Key: key(t, "ip")}, func(e *Entry) {
		keys = append(keys, string(e.Key))
	}, func(*Counts) {})
	return keys, c, err
}

func packed(t *testing.T, content string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, err := io.WriteString(w, content)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return b.String()
}

func TestLineEnds(t *testing.T) {
	for name, content := range map[string]string{
		"LF":                        lineA + "\n" + lineB + "\n",
		"CRLF":                      lineA + "\r\n" + lineB + "\r\n",
		"no end at the end":         lineA + "\n" + lineB,
		"empty lines":               "\n\n" + lineA + "\n \t\n\r\n" + lineB + "\n\n",
		"gzip":                      packed(t, lineA+"\n"+lineB+"\n"),
		"gzip of several members":   packed(t, lineA+"\n") + packed(t, lineB+"\n"),
		"a mark of UTF-8":           byteOrderMark + lineA + "\n" + lineB,
		"a mark in gzip":            packed(t, byteOrderMark+lineA+"\n"+lineB),
		"gzip, no end at its ends":  packed(t, lineA+"\n"+lineB),
		"the same with many blanks": lineA + strings.Repeat("\n", 100_000) + lineB,
	} {
		t.Run(name, func(t *testing.T) {
			keys, c, err := read(t, content)
			require.NoError(t, err)
			require.Equal(t, []string{"1.1.1.1", "2.2.2.2"}, keys)
			require.Equal(t, 2, c.Lines)
			require.Zero(t, c.Unparsed)
			require.Equal(t, []string{Combined}, c.Formats)
			require.EqualValues(t, len(content), c.Bytes)
		})
	}
}

func TestAMarkOfUTF8HidesNoFirstLine(t *testing.T) {
	for name, content := range map[string]string{
		"json": `{"time":"2026-03-14T13:50:00Z","ip":"1.1.1.1"}` + "\n",
		"csv":  "time,ip\n2026-03-14T13:50:00Z,1.1.1.1\n",
	} {
		keys, c, err := read(t, byteOrderMark+content)
		require.NoError(t, err, name)
		if len(keys) != 1 || c.Unparsed != 0 {
			t.Errorf("%s: keys %q, %d lines not read", name, keys, c.Unparsed)
		}
	}
}

func TestEmptyFilesAreNoFault(t *testing.T) {
	keys, c, err := read(t, "", "\n \n", packed(t, ""))
	require.NoError(t, err)
	require.Empty(t, keys)
	require.Zero(t, c.Lines)
}

func TestUnreadableLinesAreCountedAndShown(t *testing.T) {
	long := strings.Repeat("x", 500)
	keys, c, err := read(t, lineA+"\nfirst\n\n"+long+"\nthird\n\xff\n"+strings.Repeat(lineB+"\n", 35))
	require.NoError(t, err)
	require.Len(t, keys, 36)
	require.Equal(t, 40, c.Lines)
	require.Equal(t, 4, c.Unparsed)
	require.Len(t, c.Examples, maxExamples)
	require.Equal(t, 2, c.Examples[0].Line)
	require.Equal(t, "first", c.Examples[0].Text)
	require.Equal(t, 4, c.Examples[1].Line)
	require.Equal(t, long[:exampleLength]+"…", c.Examples[1].Text)
}

func TestLinesAreBounded(t *testing.T) {
	for _, length := range []int{maxLine - 1, maxLine, maxLine + 1, 3 * maxLine} {
		for _, end := range []string{"", "\n" + lineB} {
			keys, c, err := read(t, lineA+"\n"+strings.Repeat("x", length)+end)
			require.ErrorContains(t, err, "lines could not be read, more than one in 10; the first is line 2:")
			require.Equal(t, 1, c.Unparsed, "length %d", length)
			require.Equal(t, strings.Count(end, "\n"), len(keys)-1)
			require.Len(t, c.Examples[0].Text, exampleLength+len("…"))
		}
	}
	_, c, err := read(t, lineA+"\n"+strings.Repeat("x", maxLine+1))
	require.Error(t, err)
	require.ErrorContains(t, c.Examples[0].Why, "longer than")
}

func TestALongFirstLineHidesNoFormat(t *testing.T) {
	keys, _, err := read(t, strings.Repeat("x", maxLine/2)+"\n"+lineA+"\n")
	require.ErrorContains(t, err, "1 of 2 lines could not be read")
	require.Equal(t, []string{"1.1.1.1"}, keys)
}

func TestCutGzipGivesWhatItHolds(t *testing.T) {
	lines := longtest.Choose(30_000, 100_000, 100_000)
	whole := packed(t, strings.Repeat(lineA+"\n", lines)+lineB+"\n")
	keys, c, err := read(t, whole[:len(whole)-20], lineB)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.ErrorContains(t, err, "a.log: behind line ")
	require.Greater(t, c.Lines, lines/2)
	require.Equal(t, "2.2.2.2", keys[len(keys)-1], "the next file is read all the same")
	_, _, err = read(t, whole[:5])
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
}

func TestAFileThatCannotBeReadNamesItsFirstLine(t *testing.T) {
	keys, _, err := read(t, "<html>\n<body>\n", lineA)
	require.ErrorIs(t, err, ErrNotUnderstood)
	require.ErrorContains(t, err, `line 1: it is in none of the formats: "<html>"`)
	for _, format := range Formats {
		require.ErrorContains(t, err, format)
	}
	require.Equal(t, []string{"1.1.1.1"}, keys)
}

func TestEachFileHasItsFormat(t *testing.T) {
	keys, c, err := read(t,
		lineA,
		`{"time":"2026-03-14T13:50:02Z","ip":"3.3.3.3"}`,
		"time,ip\n1773496203,4.4.4.4\n",
		"a.example:80 "+lineB,
		"ip,time\n5.5.5.5,1773496204\n")
	require.NoError(t, err)
	require.Equal(t, []string{"1.1.1.1", "3.3.3.3", "4.4.4.4", "2.2.2.2", "5.5.5.5"}, keys)
	require.Equal(t, []string{Combined, JSON, CSV, VHost}, c.Formats)
	require.Equal(t, 5, c.Lines)
}

func TestAGivenFormatIsNotDoubted(t *testing.T) {
	in := []Input{{Name: "in", stream: strings.NewReader("when,ip\n1773496203,4.4.4.4\n")}}
	_, err := Read(t.Context(), in, Options{Format: CSV, Key: key(t, "ip")}, func(*Entry) {}, func(*Counts) {})
	var field *FieldError
	require.ErrorAs(t, err, &field)
	require.Equal(t, []string{"when", "ip"}, field.Has)
}

func TestRequestsWithoutAKeyAreCounted(t *testing.T) {
	in := []Input{{Name: "in", stream: strings.NewReader(lineA + "\n")}}
	c, err := Read(t.Context(), in, Options{Key: key(t, "user")}, func(e *Entry) { require.False(t, e.HasKey) }, func(*Counts) {})
	require.NoError(t, err)
	require.Equal(t, 1, c.NoKey)
	require.Zero(t, c.Unparsed)
}

func TestReadingEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	in := []Input{{Name: "in", stream: strings.NewReader(strings.Repeat(lineA+"\n", 100_000))}}
	ticks := 0
	c, err := Read(ctx, in, Options{Key: key(t, "ip")}, func(*Entry) {}, func(*Counts) { ticks++; cancel() })
	require.NoError(t, err)
	require.Equal(t, 1, ticks)
	require.Less(t, c.Lines, 100_000)
}

func TestFind(t *testing.T) {
	folder := t.TempDir()
	name := filepath.Join(folder, "a.log")
	require.NoError(t, os.WriteFile(name, []byte("abc"), 0o600))
	inputs, err := Find([]string{name}, nil)
	require.NoError(t, err)
	require.EqualValues(t, 3, inputs[0].Size)
	require.True(t, Again(inputs))
	for _, names := range [][]string{nil, {Stdin}, {name, Stdin}} {
		inputs, err = Find(names, strings.NewReader(""))
		require.NoError(t, err)
		require.False(t, Again(inputs))
	}
	_, err = Find([]string{name, filepath.Join(folder, "b.log")}, nil)
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = Find([]string{folder}, nil)
	require.ErrorContains(t, err, "is a folder")
}

func TestAGrowingFileIsReadAsItWas(t *testing.T) {
	name := filepath.Join(t.TempDir(), "a.log")
	require.NoError(t, os.WriteFile(name, []byte(lineA+"\n"), 0o600))
	inputs, err := Find([]string{name}, nil)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(name, []byte(lineA+"\n"+lineB+"\n"), 0o600))
	c, err := Read(t.Context(), inputs, Options{Key: key(t, "ip")}, func(*Entry) {}, func(*Counts) {})
	require.NoError(t, err)
	require.Equal(t, 1, c.Lines)
}
