package logs

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// kinds returns the names of the logs of testdata/kinds.txt, and their lines.
func kinds(t testing.TB) (names []string, logs map[string]string) {
	text, err := os.ReadFile("testdata/kinds.txt")
	require.NoError(t, err)
	logs = make(map[string]string)
	for section := range strings.SplitSeq(string(text), "\n=== ") {
		name, lines, _ := strings.Cut(section, "\n")
		names = append(names, name)
		logs[name] = lines + "\n"
	}
	delete(logs, names[0]) // the text before the first
	return names[1:], logs
}

// clients are the keys of the requests of each log of testdata/kinds.txt.
var clients = []string{
	"198.51.100.21", "198.51.100.22", "192.0.2.63", "2001:db8:7:8::/64", "2001:db8:7:8::/64", "198.51.100.21", "198.51.100.22",
}

// readText reads a log by a key, and returns the entries as texts: time and key.
func readText(t testing.TB, log string, o Options) (entries []string, c Counts, err error) {
	in := []Input{{Name: "log", stream: strings.NewReader(log)}}
	c, err = Read(t.Context(), in, o, func(e *Entry) {
		text := "-"
		if e.HasKey {
			text = string(e.Key)
		}
		entries = append(entries, time.Unix(0, e.At).UTC().Format("15:04:05 ")+text)
	}, func(*Counts) {})
	return entries, c, err
}

// TestKinds: every kind of log in testdata/kinds.txt gives the same requests
// without a flag.
func TestKinds(t *testing.T) {
	var want []string
	for i, client := range clients {
		want = append(want, fmt.Sprintf("07:08:%02d %s", 9+i, client))
	}
	names, logs := kinds(t)
	require.Greater(t, len(names), 100)
	for _, name := range names {
		for form, change := range map[string]func(string) string{
			"as it is":     func(s string) string { return s },
			"CRLF":         func(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") },
			"a mark":       func(s string) string { return byteOrderMark + s },
			"empty lines":  func(s string) string { return "\n\n" + strings.ReplaceAll(s, "\n", "\n\n") },
			"gzip":         func(s string) string { return packed(t, s) },
			"three in one": func(s string) string { return s + s + s },
		} {
			t.Run(name+"/"+form, func(t *testing.T) {
				entries, c, err := readText(t, change(logs[name]), Options{Key: key(t, "ip")})
				require.NoError(t, err)
				if form == "three in one" {
					require.Len(t, entries, 3*len(want))
					entries = entries[len(entries)-len(want):]
				}
				require.Zero(t, c.Unparsed, c.Examples)
				require.Zero(t, c.NoKey)
				require.Equal(t, want, entries)
			})
		}
	}
}

// TestKindsByFields: the fields of the request line are found in all kinds that
// have one.
func TestKindsByFields(t *testing.T) {
	_, logs := kinds(t)
	for kind, want := range map[string]string{
		"combined": "GET|/a", "vhost": "GET|/a", "cri": "GET|/a", "alb": "GET|/a", "elb_classic": "GET|/", "haproxy": "GET|/index.html",
		"envoy": "GET|/a", "istio": "GET|/a", "iis": "GET|/a", "cloudfront": "GET|/a", "traefik": "GET|/a", "caddy": "GET|/", "s3": "GET|/amzn-s3",
	} {
		entries, _, err := readText(t, logs[kind], Options{Key: key(t, "method+path")})
		require.NoError(t, err, kind)
		require.Equal(t, want, strings.ReplaceAll(entries[len(entries)-1][9:], string(rune(Separator)), "|"), kind)
	}
}

// log makes a log of n lines.
func log(n int, line func(i int, client string) string) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(line(i, fmt.Sprintf("203.0.113.%d", 1+i%4)))
		b.WriteByte('\n')
	}
	return b.String()
}

// combined is a line of combined log format whose words before the time, and
// behind the agent, are given.
func combined(i int, before, behind string) string {
	at := time.Unix(1778051289+int64(i), 0).UTC().Format("02/Jan/2006:15:04:05 -0700")
	return fmt.Sprintf(`%s [%s] "GET / HTTP/1.1" 200 5 "-" "curl/8"%s`, before, at, behind)
}

// TestRefused: logs whose client can't be told are refused, with the line, the
// reason and a way out.
func TestRefused(t *testing.T) {
	for _, tt := range []struct {
		name string
		log  string
		want []string
	}{
		{"a header on half of the lines", log(40, func(i int, c string) string {
			return combined(i, fmt.Sprintf("198.18.0.%d - -", i%9), map[bool]string{true: ` "` + c + `"`, false: ` "-"`}[i%2 == 0])
		}), []string{`"peer" and "extra1" may both hold the client (of 40 lines they differ in 20`, "-key addr:peer or -key addr:extra1"}},
		{
			"the address of a virtual host", log(40, func(i int, c string) string { return combined(i, "192.0.2.1 "+c+" - -", "") }),
			[]string{`"peer" and "forwarded" may both hold the client`},
		},
		{
			"a port that may be of either", log(40, func(i int, c string) string { return combined(i, c+":20000 10.0.0.1 - -", "") }),
			[]string{"line 1:", `"203.0.113.1:20000" before another address may be a client with its port, or a virtual host (-format vhost)`},
		},
		{
			"a number first", log(9, func(i int, c string) string { return combined(i, fmt.Sprintf("17780512%d.5 - -", i), "") }),
			[]string{"line 1:", `"17780512`, "is neither an address nor a name"},
		},
		{
			"a number before the address", log(9, func(i int, c string) string { return combined(i, "1778051289.5 "+c+" - -", "") }),
			[]string{`"1778051289.5" before an address is none`},
		},
		{
			"the number of a request first", log(9, func(i int, c string) string { return combined(i, fmt.Sprintf("a1b2c3d4e5f607%02d - -", i), "") }),
			[]string{"is neither an address nor a name"},
		},
		{
			"a virtual host and two words", log(9, func(i int, c string) string { return combined(i, "example.com "+c+" -", "") }),
			[]string{"an address in the place of the identity or the user"},
		},
		{
			"the client as the user", log(9, func(i int, c string) string { return combined(i, "10.0.0.1 - "+c, "") }),
			[]string{"an address in the place of the identity or the user"},
		},
		{
			"the client among the user's words", log(9, func(i int, c string) string { return combined(i, "10.0.0.1 - "+c+" - -", "") }),
			[]string{"an address in the place of the identity or the user"},
		},
		{
			"an address in a word that is no field", log(40, func(i int, c string) string { return combined(i, "10.0.0.1 - -", " (for "+c+")") }),
			[]string{`the private address 10.0.0.1 in "peer", as of a balancer, and others elsewhere, such as 203.0.113.1`, "-key addr:peer if it is right"},
		},
		{
			"two words that may be headers", log(40, func(i int, c string) string {
				return combined(i, "10.0.0.1 - -", fmt.Sprintf(` %q "198.18.0.%d"`, c, i%9))
			}),
			[]string{`"extra1" and "extra2" may both hold the client`, "-key addr:extra1 or -key addr:extra2"},
		},
		{
			"rows before the names of columns", log(20, func(i int, c string) string { return "2026-05-06 07:08:09 10.0.0.4 " + c }) +
				"#Fields: date time c-ip s-ip\n" + log(20, func(i int, c string) string { return "2026-05-06 07:08:09 " + c + " 10.0.0.4" }),
			[]string{`20 of 40 lines could not be read, more than one in 10; the first is line 1: no line "#Fields: …" before it`},
		},
		{
			"names of connections", log(40, func(i int, c string) string { return combined(i, fmt.Sprintf("conn-%d - -", i), "") }),
			[]string{`"peer" has no address, and nearly every line has a name of its own there`},
		},
		{
			"a header that comes late", log(maxSample, func(i int, c string) string { return combined(i, "10.0.0.1 - -", "") }) +
				log(maxSample, func(i int, c string) string { return combined(i, "10.0.0.1 - -", ` "`+c+`"`) }),
			[]string{`the first lines have the client in "peer", but 2000 of 4000 have an address in "extra1", too`},
		},
		{
			"JSON whose header comes late", log(maxSample, func(i int, c string) string { return fmt.Sprintf(`{"ts":%d,"remote_addr":"10.0.0.1"}`, 1778051289+i) }) +
				log(3, func(i int, c string) string {
					return fmt.Sprintf(`{"ts":%d,"remote_addr":"10.0.0.1","x_forwarded_for":%q}`, 1778054289+i, c)
				}),
			[]string{`but 3 of 2003 have an address in "x_forwarded_for", too`},
		},
		{
			"two fields of servers' names", log(40, func(i int, c string) string {
				return fmt.Sprintf(`{"ts":%d,"ip":"10.0.0.7","remote_addr":%q}`, 1778051289+i, c)
			}),
			[]string{`"ip" and "remote_addr" may both hold the client`},
		},
		{
			"a list with the address of the connection", log(40, func(i int, c string) string {
				return fmt.Sprintf(`{"ts":%d,"remote_addr":%q,"x_forwarded_for":"9.9.9.%d, %[2]s"}`, 1778051289+i, c, i)
			}),
			[]string{`"remote_addr" and "x_forwarded_for" may both hold the client`},
		},
		{
			"JSON without a known field", log(9, func(i int, c string) string { return fmt.Sprintf(`{"ts":%d,"srv":"10.0.0.1","x":%q}`, 1778051289+i, c) }),
			[]string{"no field of the usual names holds the client's address: name it with -key addr:FIELD (addresses are in srv, x); the log has ts, srv, x"},
		},
		{
			"JSON of servers' addresses", log(9, func(i int, c string) string {
				return fmt.Sprintf(`{"ts":%d,"upstream_addr":"10.0.0.1:80","server":{"ip":"10.0.0.2"}}`, 1778051289+i)
			}),
			[]string{"no field of the usual names holds the client's address"},
		},
		{
			"JSON with a program as the client", log(9, func(i int, c string) string { return fmt.Sprintf(`{"ts":%d,"client":"mobile"}`, 1778051289+i) }),
			[]string{`no field of the usual names holds the client's address ("client" has none)`},
		},
		{
			"a duration as the time", log(9, func(i int, c string) string { return fmt.Sprintf(`{"time":0.%d,"ip":%q}`, i, c) }),
			[]string{"line 1:", `"0.0" is no time`},
		},
		{"an array", "[\n {\"ts\":1778051289,\"ip\":\"1.2.3.4\"},\n {\"ts\":1778051289,\"ip\":\"1.2.3.4\"}\n]\n", []string{"line 1:", "an array: write each object on a line of its own (jq -c '.[]')"}},
		{"an array on one line", `[{"ts":1778051289,"ip":"1.2.3.4"}]`, []string{"an array"}},
		{"an object of many lines", "{\n \"ts\":1778051289\n}\n", []string{"no JSON object on one line"}},
		{"an array inside", `{"Records":[{"eventTime":"2026-05-06T07:08:09Z","sourceIPAddress":"1.2.3.4"}]}`, []string{"the log has Records[]"}},
		{
			"CSV without names", "2026-05-06T07:08:09Z,203.0.113.1\n2026-05-06T07:08:10Z,203.0.113.2\n",
			[]string{"line 1:", `the first row must have the names of the columns, but it has the value "2026-05-06T07:08:09Z"`},
		},
		{"CSV with a name twice", "time,ip,ip\n1778051289,203.0.113.1,10.0.0.1\n", []string{`two columns have the name "ip"`}},
		{"IIS without names", "2026-05-06 07:08:09 10.0.0.4 GET /a - 443 - 203.0.113.1 x - 200 0 0 15\n", []string{"line 1:", `no line "#Fields: …" before it`}},
		{
			"Envoy without the header", log(9, func(i int, c string) string {
				return `[2026-05-06T07:08:09Z] "GET / HTTP/1.1" 200 - 0 12 3 2 "-" "curl" "id" "host" "10.0.7.1:80"`
			}),
			[]string{`no field of the usual names holds the client's address ("forwarded" has none)`},
		},
		{
			"another program's syslog", log(9, func(i int, c string) string {
				return "Mar 14 12:00:00 h sshd[1]: Failed password from " + c + " port 22"
			}),
			[]string{"line 1:", "none of the formats", "Failed password"},
		},
		{"blank lines before it", "\n\n<html>\n", []string{`line 3: it is in none of the formats: "<html>"`}},
		{"two formats", log(20, func(i int, c string) string {
			if i%4 == 0 {
				return fmt.Sprintf(`{"ts":%d,"ip":%q}`, 1778051289+i, c)
			}
			return combined(i, c+" - -", "")
		}), []string{"5 of 20 lines could not be read, more than one in 10; the first is line 1: no time in brackets"}},
		{
			"most lines without the client", log(20, func(i int, c string) string {
				return fmt.Sprintf(`{"ts":%d,"client_ip":%q}`, 1778051289+i, map[bool]string{true: c}[i%3 == 0])
			}),
			[]string{`13 of 20 requests have no address in "client_ip"`},
		},
		{"only parts", "2026-05-06T07:08:09Z stdout P 203.0.113.1 - -\n", []string{"no line could be read"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := readText(t, tt.log, Options{Key: key(t, "ip")})
			require.Error(t, err)
			for _, want := range tt.want {
				require.ErrorContains(t, err, want)
			}
		})
	}
}

// TestTheRefusedIsReadByName: the way out of an error works.
func TestTheRefusedIsReadByName(t *testing.T) {
	text := log(40, func(i int, c string) string { return combined(i, "192.0.2.1 "+c+" - -", "") })
	for field, want := range map[string]string{"addr:peer": "203.0.113.4", "addr:forwarded": "192.0.2.1", "peer": "203.0.113.4"} {
		entries, _, err := readText(t, text, Options{Key: key(t, field)})
		require.NoError(t, err)
		require.Equal(t, want, entries[39][9:])
	}
}

// TestClients: the right one of two addresses is taken, line by line.
func TestClients(t *testing.T) {
	for _, tt := range []struct {
		name string
		line func(i int, c string) string
		want func(i int, c string) string
	}{
		{"health checks of the balancer have no key", func(i int, c string) string {
			return combined(i, "10.0.0.1 - -", map[bool]string{true: ` "` + c + `"`, false: ` "-"`}[i%4 > 0])
		}, func(i int, c string) string { return map[bool]string{true: c, false: "-"}[i%4 > 0] }},
		{"few invented headers", func(i int, c string) string {
			return combined(i, c+" - -", map[bool]string{true: ` "9.9.9.9"`, false: ` "-"`}[i == 7])
		}, func(_ int, c string) string { return c }},
		{"a list of few clients is theirs", func(i int, c string) string {
			return fmt.Sprintf(`{"ts":%d,"remote_addr":%q,"x_forwarded_for":"%s%[2]s"}`, 1778051289+i, c, map[bool]string{true: "9.9.9.9, "}[i == 7])
		}, func(_ int, c string) string { return c }},
		{"an upstream is no client", func(i int, c string) string {
			return combined(i, c+" - -", fmt.Sprintf(` "10.0.7.%d:80"`, i%3))
		}, func(_ int, c string) string { return c }},
		{"an upstream of clients inside is none", func(i int, c string) string {
			return combined(i, fmt.Sprintf("10.1.1.%d - -", i%9), fmt.Sprintf(` "10.0.7.%d:80"`, i%5))
		}, func(i int, _ string) string { return fmt.Sprintf("10.1.1.%d", i%9) }},
		{
			"the address of the server is no client", func(i int, c string) string {
				return combined(i, "10.0.0.1 - -", ` "192.0.2.1" "`+c+`"`)
			},
			func(_ int, c string) string { return c },
		},
		{"clients inside behind a balancer", func(i int, c string) string {
			return combined(i, "10.0.0.1 - -", fmt.Sprintf(` "10.1.1.%d"`, i%9))
		}, func(i int, _ string) string { return fmt.Sprintf("10.1.1.%d", i%9) }},
		{"an unknown first of a list", func(i int, c string) string {
			return combined(i, map[bool]string{true: "unknown", false: c}[i%8 == 0]+", 10.0.0.1 - -", "")
		}, func(i int, c string) string { return map[bool]string{true: "-", false: c}[i%8 == 0] }},
		{"no list at all", func(i int, c string) string {
			return combined(i, map[bool]string{true: "-", false: c}[i%8 == 0]+" 10.0.0.1 - -", "")
		}, func(i int, c string) string { return map[bool]string{true: "-", false: c}[i%8 == 0] }},
		{"the header of RFC 7239", func(i int, c string) string {
			return fmt.Sprintf(`{"ts":%d,"remote_addr":"10.0.0.1","headers":{"Forwarded":"for=\"%s:4711\";proto=https, for=10.0.0.1"}}`, 1778051289+i, c)
		}, func(_ int, c string) string { return c }},
		{"the server's own address", func(i int, c string) string {
			return fmt.Sprintf(`{"ts":%d,"client_ip":%q,"remote_addr":"10.0.0.1:%d"}`, 1778051289+i, c, 4000+i)
		}, func(_ int, c string) string { return c }},
		{
			"names of hosts", func(i int, c string) string { return combined(i, "host"+c[10:]+" - -", "") },
			func(_ int, c string) string { return "host" + c[10:] },
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			entries, c, err := readText(t, log(40, tt.line), Options{Key: key(t, "ip")})
			require.NoError(t, err)
			require.Zero(t, c.Unparsed, c.Examples)
			require.Len(t, entries, 40)
			for i, e := range entries {
				require.Equal(t, tt.want(i, fmt.Sprintf("203.0.113.%d", 1+i%4)), e[9:], "line %d", i+1)
			}
		})
	}
}

// TestTimes: the field that holds the time of the request is taken.
func TestTimes(t *testing.T) {
	for name, line := range map[string]string{
		"the start of the program is none": `{"start_time":"2026-01-01T00:00:00Z","time":"2026-05-06T07:08:%02[1]dZ"}`,
		"a duration is none":               `{"time":0.%[1]d,"ts":"2026-05-06 07:08:%02[1]d,0"}`,
		"a number of the line is none":     `{"ts":%[1]d,"timestamp":"2026-05-06T07:08:%02[1]d+0000"}`,
		"the start before the end":         `{"time":"2026-05-06T07:09:59Z","StartUTC":"2026-05-06T07:08:%02[1]dZ"}`,
		"the time of the sending is none":  `{"receiveTimestamp":"2026-05-06T07:09:59Z","timestamp":"2026-05-06T07:08:%02[1]dZ"}`,
		"date and time apart":              `{"date":"2026-05-06","time":"07:08:%02[1]d"}`,
		"with an exponent":                 `{"ts":"2026-05-06T07:08:%02[1]dZ","@timestamp":1.0e0}`,
		"with a name of the month":         `{"time":"May 6, 2026 @ 07:08:%02[1]d.000"}`,
		"with a zone":                      `{"time":"2026-05-06 09:08:%02[1]d +0200"}`,
		"a fraction behind a comma":        `{"time":"2026-05-06T07:08:%02[1]d,000Z"}`,
	} {
		entries, _, err := readText(t, log(40, func(i int, c string) string {
			return strings.Replace(fmt.Sprintf(line, i), "{", fmt.Sprintf(`{"ip":%q,`, c), 1)
		}), Options{Key: key(t, "ip")})
		require.NoError(t, err, name)
		require.Len(t, entries, 40, name)
		for i, e := range entries {
			require.Equal(t, fmt.Sprintf("07:08:%02d", i), e[:8], name)
		}
	}
}

// TestLinesOfOtherProgramsArePassedOver: lines that are no requests are counted,
// and do not count as unreadable.
func TestLinesOfOtherProgramsArePassedOver(t *testing.T) {
	_, logs := kinds(t)
	for kind, want := range map[string]int{"caddy": 3, "caddy_err": 7, "late": 40, "compose": 4, "cri_stderr": 6, "fastify": 7, "pino": 1, "haproxy_raw": 2} {
		_, c, err := readText(t, logs[kind], Options{Key: key(t, "ip")})
		require.NoError(t, err)
		require.Equal(t, want, c.Other, kind)
		require.NotNil(t, c.Passed, kind)
		require.NotEmpty(t, c.Passed.Why.Error())
		require.Len(t, clients, c.Lines-c.Other, kind)
	}
}

// TestRequestsOfOtherProgramsAreNotPassedOver: a program all of whose lines are
// unreadable requests is reported.
func TestRequestsOfOtherProgramsAreNotPassedOver(t *testing.T) {
	text := log(20, func(i int, c string) string {
		if i%2 == 0 {
			return "api-1 | GET / for " + c
		}
		return "web-1 | " + combined(i, c+" - -", "")
	})
	_, c, err := readText(t, text, Options{Key: key(t, "ip")})
	require.ErrorContains(t, err, "10 of 20 lines could not be read")
	require.Equal(t, 10, c.Unparsed)
}

// TestFilesWithoutRequests: only names of columns are no fault, and only notes
// are one.
func TestFilesWithoutRequests(t *testing.T) {
	for text, want := range map[string]string{
		"time,user\n":                              "",
		"#Fields: date time cs-username\n":         "",
		`{"ts":1778051289,"user":null,"msg":"hi"}`: "",
		`{"ts":1778051289,"logger":"admin","user":"u"}` + "\n" + `{"ts":1778051290,"logger":"admin","user":"u"}`: "none of 2 is a request; the first is line 1: a line of the logger admin",
	} {
		_, c, err := readText(t, text, Options{Key: key(t, "user")})
		require.Zero(t, c.Keys.Requests, text)
		if want == "" {
			require.NoError(t, err, text)
		} else {
			require.ErrorContains(t, err, want)
		}
	}
}

// TestTheFirstUnreadableLineIsOfARequest: the error names no line of a program
// that was passed over.
func TestTheFirstUnreadableLineIsOfARequest(t *testing.T) {
	text := "db-1 | checkpoint\n" + log(10, func(i int, c string) string {
		if i < 5 {
			return "web-1 | GET / of " + c
		}
		return "web-1 | " + combined(i, c+" - -", "")
	})
	_, c, err := readText(t, text, Options{Key: key(t, "ip")})
	require.ErrorContains(t, err, "5 of 10 lines could not be read, more than one in 10; the first is line 2:")
	require.Equal(t, 1, c.Other)
	require.Len(t, c.Examples, 2)
	require.Equal(t, 2, c.Examples[0].Line)
}

func TestAPartWithoutItsEndIsCounted(t *testing.T) {
	text := log(20, func(i int, c string) string { return "2026-05-06T07:08:09Z stdout F " + combined(i, c+" - -", "") }) +
		"2026-05-06T07:08:09Z stdout P 203.0.113.1 - - [06/May/2026"
	entries, c, err := readText(t, text, Options{Key: key(t, "ip")})
	require.NoError(t, err)
	require.Len(t, entries, 20)
	require.Equal(t, 1, c.Unparsed)
	require.ErrorContains(t, c.Examples[0].Why, "the end of the line is missing")
}

// TestKeyForms: keys that do not look like clients are counted.
func TestKeyForms(t *testing.T) {
	text := log(20, func(i int, c string) string {
		return fmt.Sprintf(`{"ts":%d,"at":"2026-05-06T07:08:%02dZ","n":%d,"client_ip":"10.0.0.1","addr":"%s:%d"}`, 1778051289+i, i, i, c, 4000+i)
	})
	for field, want := range map[string]KeyForms{
		"ip":        {Requests: 20, Internal: 20},
		"client_ip": {Requests: 20, Internal: 20},
		"addr":      {Requests: 20, Ports: 20},
		"addr:addr": {Requests: 20},
		"ts":        {Requests: 20, Numbers: 20},
		"at":        {Requests: 20, Times: 20},
		"n":         {Requests: 20, Numbers: 20},
	} {
		if field == "ip" {
			continue // refused, as the log has other addresses elsewhere
		}
		_, c, err := readText(t, text, Options{Key: key(t, field)})
		require.NoError(t, err, field)
		got := c.Keys
		got.often, got.votes, got.clock = nil, 0, clock{}
		require.Equal(t, want, got, field)
		often, ok := c.Keys.Often()
		require.Equal(t, field == "client_ip", ok, field)
		require.Equal(t, ok, often == "10.0.0.1", field)
	}
}

// FuzzKinds changes the lines of all kinds. The reader must not panic, and no
// key may be anything else than an address in the log, or the name of a host,
// of a format that is named.
func FuzzKinds(f *testing.F) {
	names, logs := kinds(f)
	for _, name := range names {
		f.Add([]byte(logs[name]))
	}
	f.Fuzz(func(t *testing.T, log []byte) {
		in := []Input{{Name: filepath.Base(t.Name()), stream: bytes.NewReader(log)}}
		c, _ := Read(t.Context(), in, Options{Key: key(t, "ip")}, func(e *Entry) {
			checkEntry(t, *e)
			if !e.HasKey {
				return
			}
			text, _ := strings.CutSuffix(string(e.Key), "/64")
			_, withPort, ok := parseAddress([]byte(text))
			require.False(t, ok && withPort, "%q has a port", e.Key)
			require.True(t, ok || isName([]byte(text)), "%q is neither an address nor a name", e.Key)
			if !bytes.ContainsAny(log, `\`) && !bytes.Contains(log, []byte("::")) && len(text) == len(e.Key) {
				require.Contains(t, string(log), text)
			}
		}, func(*Counts) {})
		require.True(t, c.Keys.Requests == 0 || len(c.Formats) == 1)
		require.Equal(t, c.Lines-c.Unparsed-c.Other, c.Keys.Requests+c.NoKey)
	})
}
