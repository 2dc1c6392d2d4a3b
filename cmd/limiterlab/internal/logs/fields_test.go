package logs

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// newTestParser returns a parser of the format, prepared with the sample.
func newTestParser(t *testing.T, format, keyText, timeField string, lines ...string) *file {
	p, err := newParser(Options{Format: format, TimeField: timeField, Key: key(t, keyText)}, lines...)
	require.NoError(t, err)
	return p
}

func newParser(o Options, lines ...string) (*file, error) {
	s := sample{first: 1}
	for _, line := range lines {
		s.lines = append(s.lines, []byte(line))
	}
	f, _, err := newFile(s, o)
	return f, err
}

func TestJSONLines(t *testing.T) {
	const at = "2026-03-14T13:50:00Z"
	for _, tt := range []struct{ name, key, timeField, line, at, want string }{
		{"RFC 3339", "ip", "", `{"time":"2026-03-14T14:50:00.5+01:00","ip":"1.2.3.4"}`, "2026-03-14T14:50:00.5+01:00", "1.2.3.4"},
		{"seconds", "ip", "ts", `{"ts":1773496200,"ip":"1.2.3.4"}`, at, "1.2.3.4"},
		{"seconds as text", "ip", "ts", `{"ts":"1773496200","ip":"1.2.3.4"}`, at, "1.2.3.4"},
		{"seconds with a fraction", "ip", "ts", `{"ts":1773496200.123456789,"ip":"1.2.3.4"}`, "2026-03-14T13:50:00.123456789Z", "1.2.3.4"},
		{"milliseconds", "ip", "ts", `{"ts":1773496200250,"ip":"1.2.3.4"}`, "2026-03-14T13:50:00.25Z", "1.2.3.4"},
		{"milliseconds with a fraction", "ip", "ts", `{"ts":1773496200250.5,"ip":"1.2.3.4"}`, "2026-03-14T13:50:00.2505Z", "1.2.3.4"},
		{"microseconds", "ip", "ts", `{"ts":"1773496200250001","ip":"1.2.3.4"}`, "2026-03-14T13:50:00.250001Z", "1.2.3.4"},
		{"nanoseconds", "ip", "ts", `{"ts":1773496200250000001,"ip":"1.2.3.4"}`, "2026-03-14T13:50:00.250000001Z", "1.2.3.4"},
		{"no zone", "ip", "", `{"time":"2026-03-14 13:50:00","ip":"1.2.3.4"}`, at, "1.2.3.4"},
		{"access log time", "ip", "", `{"time_local":"14/Mar/2026:14:50:00 +0100","ip":"1.2.3.4"}`, "2026-03-14T14:50:00+01:00", "1.2.3.4"},
		{"usual names", "ip+path", "", `{"@timestamp":"2026-03-14T13:50:00Z","remote_addr":"2001:db8::1","request_uri":"/a?b"}`, at, "2001:db8::/64|/a"},
		{"its own name is taken as it is", "remote_addr", "", `{"ts":1773496200,"remote_addr":"2001:db8::1"}`, at, "2001:db8::1"},
		{"number and truth", "n+b", "", `{"ts":1773496200,"n":12,"b":true}`, at, "12|true"},
		{"escapes", "user", "", `{"ts":1773496200,"user":"a\"\u00e9"}`, at, `a"é`},
		{"inside", "http.client.id", "", `{"ts":1773496200,"http":{"client":{"id":"x"}}}`, at, "x"},
		{"a name with a dot", "a.b", "", `{"ts":1773496200,"a.b":"x"}`, at, "x"},
		{"time inside", "ip", "event.at", `{"event":{"at":1773496200},"ip":"1.2.3.4"}`, at, "1.2.3.4"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newTestParser(t, JSON, tt.key, tt.timeField, tt.line)
			require.Equal(t, parsed{at: tt.at, key: tt.want}, parse(t, p, tt.line))
		})
	}
}

func TestJSONLinesThatLackSomething(t *testing.T) {
	p := newTestParser(t, JSON, "user", "", `{"ts":1773496200,"user":"u"}`)
	for line, want := range map[string]parsed{
		`{"ts":1773496200,"user":null}`:        {at: "2026-03-14T13:50:00Z", key: "-"},
		`{"ts":1773496200,"user":""}`:          {at: "2026-03-14T13:50:00Z", key: "-"},
		`{"ts":1773496200,"user":"-"}`:         {at: "2026-03-14T13:50:00Z", key: "-"},
		`{"ts":1773496200,"user":{"id":1}}`:    {at: "2026-03-14T13:50:00Z", key: "-"},
		`{"ts":1773496200,"user":["a"]}`:       {at: "2026-03-14T13:50:00Z", key: "-"},
		`{"ts":1773496200}`:                    {at: "2026-03-14T13:50:00Z", key: "-"},
		`{"user":"u"}`:                         {err: `the line lacks the field "ts", which holds the time`},
		`{"ts":null,"user":"u"}`:               {err: `the line lacks the field "ts", which holds the time`},
		`{"ts":"noon","user":"u"}`:             {err: `"noon" is no time: want RFC 3339, the time of access logs, or seconds or milliseconds since 1970`},
		`{"ts":-5,"user":"u"}`:                 {err: `"-5" is no time: want RFC 3339, the time of access logs, or seconds or milliseconds since 1970`},
		`{"ts":99999999999,"user":"u"}`:        {err: `"99999999999" is no time: want RFC 3339, the time of access logs, or seconds or milliseconds since 1970`},
		`{"ts":"2300-01-01T00:00:00Z"}`:        {err: "the time is not between 1970 and 2200"},
		`{"ts":1773496200,"user":"u"`:          {err: "no JSON object on one line: unexpected end of JSON input"},
		`[]`:                                   {err: "no JSON object, but an array: write each object on a line of its own (jq -c '.[]')"},
		`{"ts":1773496200,"user":"u"} {"a":1}`: {err: "no JSON object on one line: invalid character '{' after top-level value"},
	} {
		if got := parse(t, p, line); got != want {
			t.Errorf("%s is read as %+v, want %+v", line, got, want)
		}
	}
}

func TestFieldsThatJSONLacks(t *testing.T) {
	lines := []string{`{"ts":1778051289,"client":{"id":2}}`, `{"ts":1778051289,"level":"info"}`, "no JSON"}
	_, err := newParser(Options{Key: key(t, "tenant")}, lines...)
	require.EqualError(t, err, `the log has no field "tenant", but ts, client.id, level`)
	_, err = newParser(Options{Key: key(t, "level"), TimeField: "at"}, lines...)
	require.EqualError(t, err, `the log has no field "at", but ts, client.id, level`)
	_, err = newParser(Options{Key: key(t, "a")}, `{"a":1}`)
	require.EqualError(t, err, "no field of the usual names holds the time: name it with -time-field; the log has a")
}

func TestCSVRows(t *testing.T) {
	p := newTestParser(t, CSV, "client+note", "when", "when,client,note")
	const at = "2026-03-14T13:50:00Z"
	for line, want := range map[string]parsed{
		"1773496200,c,n":                {at: at, key: "c|n"},
		"2026-03-14T13:50:00Z,c,n":      {at: at, key: "c|n"},
		`1773496200,"c,d","say ""hi"""`: {at: at, key: `c,d|say "hi"`},
		`1773496200,"",n`:               {at: at, key: "-"},
		"1773496200,c,":                 {at: at, key: "-"},
		`1773496200,c,n"n`:              {at: at, key: `c|n"n`},
		"1773496200,c":                  {err: "2 values for 3 columns"},
		"1773496200,c,n,":               {err: "4 values for 3 columns"},
		`1773496200,"c,n`:               {err: "the quotes around a value do not end"},
		`1773496200,"c"d,n`:             {err: "text behind a value in quotes"},
		"noon,c,n":                      {err: `"noon" is no time: want RFC 3339, the time of access logs, or seconds or milliseconds since 1970`},
		"when,client,note":              {err: errHeader.Error()},
		"":                              {err: errHeader.Error()},
	} {
		if got := parse(t, p, line); got != want {
			t.Errorf("%s is read as %+v, want %+v", line, got, want)
		}
	}
}

func TestOtherSeparators(t *testing.T) {
	p := newTestParser(t, CSV, "user", "", "time;user")
	require.Equal(t, "1,2", parse(t, p, "1773496200;1,2").key)
	p = newTestParser(t, CSV, "user", "", "user\ttime")
	require.Equal(t, "x", parse(t, p, "x\t1773496200").key)
}

func TestFieldsThatCSVLacks(t *testing.T) {
	_, err := newParser(Options{Key: key(t, "user")}, "time,client", "1778051289,c")
	require.EqualError(t, err, `the log has no field "user", but time, client`)
	_, err = newParser(Options{Key: key(t, "client"), Format: CSV}, "when,client", "1778051289,c")
	require.ErrorContains(t, err, "name it with -time-field; the log has when, client")
}
