package logs

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// checkEntry checks the properties of every entry that a parser has read.
func checkEntry(t *testing.T, e Entry) {
	require.GreaterOrEqual(t, e.At, earliest.UnixNano())
	require.LessOrEqual(t, e.At, latest.UnixNano())
	if e.HasKey {
		require.NotEmpty(t, e.Key)
	}
}

func FuzzAccess(f *testing.F) {
	f.Add([]byte(lineA), false)
	f.Add([]byte(`h:80 1.2.3.4 - a b [10/Oct/2000:13:55:36 -0700] "GET /\"q\" HTTP/1.0" 200 1 "a \" b" "c \\" "more"`), true)
	f.Add([]byte(`::1 - - [10/Oct/2000:13:55:36 -0700] "\" 200`), false)
	f.Fuzz(func(t *testing.T, line []byte, host bool) {
		p, err := newAccess(key(t, "ip+user+method+path+status+referer+agent"), host)
		require.NoError(t, err)
		kept := bytes.Clone(line)
		var e Entry
		if p.parse(line, &e) == nil {
			checkEntry(t, e)
			require.Contains(t, string(line), "[")
		}
		require.Equal(t, kept, line, "a line is read, not changed")
	})
}

func FuzzJSON(f *testing.F) {
	f.Add([]byte(`{"ts":1773496200.5,"ip":"1.2.3.4","a":{"b":"c"}}`))
	f.Add([]byte(`{"ts":"2026-03-14T13:50:00Z","ip":"\u00e9\"","a":null}`))
	f.Add([]byte(`{"ts":{},"ip":[],"a":{"b":{"c":1}}}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		p := newTestParser(t, JSON, "ip+a.b", "ts", `{"ts":1,"ip":"i","a":{"b":1}}`)
		var e Entry
		if p.parse(line, &e) == nil {
			checkEntry(t, e)
			require.True(t, json.Valid(line))
		}
		if p, err := newJSON([][]byte{line}, Options{Key: key(t, "ip")}); err == nil {
			_ = p.parse(line, &e)
		}
	})
}

// FuzzCSV compares splitRow with encoding/csv, which reads whole files.
func FuzzCSV(f *testing.F) {
	f.Add([]byte(`a,"b,""c""",d`))
	f.Add([]byte(`"",,"`))
	f.Add([]byte(`a"b,"c"d`))
	f.Fuzz(func(t *testing.T, line []byte) {
		got, err := splitRow(bytes.Clone(line), ',', nil)
		if err == nil {
			require.NotEmpty(t, got)
		}
		if bytes.ContainsAny(line, "\r\n") || len(line) == 0 {
			return
		}
		want, wantErr := csv.NewReader(bytes.NewReader(line)).Read()
		if wantErr != nil {
			return // encoding/csv is stricter about a quote within a value
		}
		require.NoError(t, err)
		var texts []string
		for _, cell := range got {
			texts = append(texts, string(cell))
		}
		require.True(t, slices.Equal(want, texts), "%q, want %q", texts, want)
	})
}

func FuzzTimes(f *testing.F) {
	for _, text := range []string{"1773496200", "1773496200.25", "9223372036854775807", "2026-03-14T13:50:00Z", "14/Mar/2026:13:50:00 +0100", "99999999999.9"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var c clock
		var e, again Entry
		if c.read(text, &e) == nil {
			checkEntry(t, e)
			require.NoError(t, c.read(text, &again), "a layout once found is found again")
			require.Equal(t, e, again)
		}
	})
}
