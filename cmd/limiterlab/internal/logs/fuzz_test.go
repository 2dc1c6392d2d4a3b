package logs

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"slices"
	"testing"
	"unicode/utf8"

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
		format, good := Combined, lineA+` "-" "-"`
		if host {
			format, good = VHost, "a.example "+good
		}
		p := newTestParser(t, format, "ip+user+method+path+status+referer+agent", "", good)
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
	f.Add([]byte(`{"ts":{},"ip":[],"a":{"b":{"c":[1,{"name":"X-Real-IP","value":""}]}}}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		p := newTestParser(t, JSON, "ip+a.b", "ts", `{"ts":1773496200,"ip":"1.2.3.4","a":{"b":1}}`)
		var e Entry
		if p.parse(line, &e) == nil {
			checkEntry(t, e)
			require.True(t, json.Valid(line))
		}
	})
}

// FuzzObjects compares the names and values of an object with encoding/json.
func FuzzObjects(f *testing.F) {
	f.Add([]byte(`{"a": 1 , "b\n":"\u00e9\"" ,"c":null, "d" : true,"e":[1],"f":{"g":-1.5e3,"":2}}`))
	f.Add([]byte(" {\"a\":{}}\t"))
	f.Fuzz(func(t *testing.T, line []byte) {
		r := newRecord(&Options{})
		s := newJSON(r)
		err := s.split(line, r)
		var want map[string]json.RawMessage
		if json.Unmarshal(bytes.TrimSpace(line), &want) != nil || want == nil || !utf8.Valid(line) {
			require.True(t, err != nil || !utf8.Valid(line))
			return
		}
		require.NoError(t, err)
		for name, raw := range want {
			if c, ok := r.index[name]; ok && r.columns[c].wanted && raw[0] != '{' && raw[0] != '[' {
				require.NotNil(t, r.values[c], name)
			} else if raw[0] != '{' && raw[0] != '[' {
				require.True(t, ok, name)
			}
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
		if c.read([]byte(text), &e) == nil {
			checkEntry(t, e)
			c.text = ""
			require.NoError(t, c.read([]byte(text), &again), "a layout once found is found again")
			require.Equal(t, e, again)
		}
	})
}
