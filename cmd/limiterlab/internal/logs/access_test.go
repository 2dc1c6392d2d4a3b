package logs

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// parsed is the result of a parser for one line: its time and key, or an error.
type parsed struct {
	at  string // RFC 3339, in the zone of the line
	key string // parts separated by a bar; "-" for none
	err string
}

func parse(t *testing.T, p *file, line string) parsed {
	var e Entry
	if err := p.parse([]byte(line), &e); err != nil {
		return parsed{err: err.Error()}
	}
	at := time.Unix(0, e.At).In(time.FixedZone("", e.Offset))
	require.Equal(t, at.Nanosecond() == 0, e.Whole)
	key := "-"
	if e.HasKey {
		for i, b := range e.Key {
			if b == Separator {
				e.Key[i] = '|'
			}
		}
		key = string(e.Key)
	}
	return parsed{at: at.Format(time.RFC3339Nano), key: key}
}

func key(t *testing.T, s string) Key {
	k, err := ParseKey(s)
	require.NoError(t, err)
	return k
}

func TestAccessLines(t *testing.T) {
	const at = "2000-10-10T13:55:36-07:00"
	for _, tt := range []struct{ name, key, line, want string }{
		{"common", "ip", `127.0.0.1 - frank [10/Oct/2000:13:55:36 -0700] "GET /a.gif HTTP/1.0" 200 2326`, "127.0.0.1"},
		{"no size", "ip", `127.0.0.1 - - [10/Oct/2000:13:55:36 -0700] "GET / HTTP/1.0" 304 -`, "127.0.0.1"},
		{"nothing behind the status", "ip", `127.0.0.1 - - [10/Oct/2000:13:55:36 -0700] "GET / HTTP/1.0" 304`, "127.0.0.1"},
		{"user", "user", `127.0.0.1 - frank [10/Oct/2000:13:55:36 -0700] "GET / HTTP/1.0" 200 1`, "frank"},
		{"user with spaces", "user", `127.0.0.1 - frank the [first] [10/Oct/2000:13:55:36 -0700] "GET / HTTP/1.0" 200 1`, "frank the [first]"},
		{"user with a space", "user", `127.0.0.1 - frank n. [10/Oct/2000:13:55:36 -0700] "GET / HTTP/1.0" 200 1`, "frank n."},
		{"no user", "user", `127.0.0.1 - - [10/Oct/2000:13:55:36 -0700] "GET / HTTP/1.0" 200 1`, "-"},
		{"method and path", "method+path", `1.2.3.4 - - [10/Oct/2000:13:55:36 -0700] "PUT /a/b?c=d HTTP/1.0" 200 1`, "PUT|/a/b"},
		{"path of HTTP/0.9", "path", `1.2.3.4 - - [10/Oct/2000:13:55:36 -0700] "GET /a" 200 1`, "/a"},
		{"garbage for a request", "ip+path", `1.2.3.4 - - [10/Oct/2000:13:55:36 -0700] "\x16\x03" 400 1`, "-"},
		{"escaped quotes", "path+agent", `1.2.3.4 - - [10/Oct/2000:13:55:36 -0700] "GET /\"q\" HTTP/1.0" 200 1 "a \" b" "c \\" "more"`, `/\"q\"|c \\`},
		{"referer", "referer", `1.2.3.4 - - [10/Oct/2000:13:55:36 -0700] "GET / HTTP/1.0" 200 1 "http://there/" "curl"`, "http://there/"},
		{"status", "status", `1.2.3.4 - - [10/Oct/2000:13:55:36 -0700] "GET / HTTP/1.0" 429 1`, "429"},
		{"IPv6 by the /64", "ip", `2001:db8:1:2:3:4:5:6 - - [10/Oct/2000:13:55:36 -0700] "GET / HTTP/1.0" 200 1`, "2001:db8:1:2::/64"},
		{"IPv4 within IPv6", "ip", `::ffff:1.2.3.4 - - [10/Oct/2000:13:55:36 -0700] "GET / HTTP/1.0" 200 1`, "1.2.3.4"},
		{"link-local with a zone", "ip", `fe80::1%eth0 - - [10/Oct/2000:13:55:36 -0700] "GET / HTTP/1.0" 200 1`, "fe80::/64"},
		{"host name", "ip", `a.example - - [10/Oct/2000:13:55:36 -0700] "GET / HTTP/1.0" 200 1`, "a.example"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newTestParser(t, Combined, tt.key, "", tt.line)
			require.Equal(t, parsed{at: at, key: tt.want}, parse(t, p, tt.line))
		})
	}
}

func TestAccessTimes(t *testing.T) {
	p := newTestParser(t, Combined, "ip", "", lineA)
	for text, want := range map[string]string{
		"01/Jan/2026:00:00:00 +0000": "2026-01-01T00:00:00Z",
		"29/Feb/2024:23:59:59 +0545": "2024-02-29T23:59:59+05:45",
		"31/Dec/2025:12:00:00 -1130": "2025-12-31T12:00:00-11:30",
		"31/Dec/1969:12:00:00 -0000": "",
		"31/Dec/2200:12:00:00 -0000": "",
		"29/Feb/2026:12:00:00 +0000": "",
		"2026-01-01 12:00:00":        "2026-01-01T12:00:00Z",
		"10/Oct/2000":                "",
		"":                           "",
	} {
		for range 2 { // the second time from memory
			got := parse(t, p, `1.2.3.4 - - [`+text+`] "GET / HTTP/1.0" 200 1`)
			if got.at != want || (got.err == "") != (want != "") {
				t.Errorf("time %q is read as %+v, want %q", text, got, want)
			}
		}
	}
}

func TestNoTimeIsNotTheTimeBefore(t *testing.T) {
	p := newTestParser(t, Combined, "ip", "", lineA)
	require.NotEmpty(t, parse(t, p, `1.2.3.4 - - [] "GET / HTTP/1.0" 200 1`).err)
}

func TestMalformedAccessLines(t *testing.T) {
	p := newTestParser(t, Combined, "ip", "", lineA)
	for line, want := range map[string]string{
		``:      errHeader.Error(),
		`hello`: "no time in brackets",
		`1.2.3.4 - - [10/Oct/2000:13:55:36 -0700 "GET / HTTP/1.0" 200 1`:     "no time in brackets",
		`1.2.3.4 - - [10/Oct/2000:13:55:36 -0700] GET / 200 1`:               "no request in quotes behind the time in brackets",
		`1.2.3.4 - - [10/Oct/2000:13:55:36 -0700] "GET / 200 1`:              "the quotes around the request do not end",
		`1.2.3.4 - - [10/Oct/2000:13:55:36 -0700] "GET / HTTP/1.0"`:          "no status of three digits",
		`1.2.3.4 - - [10/Oct/2000:13:55:36 -0700] "GET / HTTP/1.0" two 1`:    "no status of three digits",
		`1.2.3.4 - - [10/Oct/2000:13:55:36 -0700] "GET / HTTP/1.0" 20`:       "no status of three digits",
		`1.2.3.4 - [10/Oct/2000:13:55:36 -0700] "GET / HTTP/1.0" 200 1`:      "no address, identity and user",
		` - - [10/Oct/2000:13:55:36 -0700] "GET / HTTP/1.0" 200 1`:           "no address, identity and user",
		`1.2.3.4 - - [yesterday] "GET / HTTP/1.0" 200 1`:                     `"yesterday" is no time`,
		`1.2.3.4 - - [10/Oct/2000:13:55:36 -0700] "GET / HTTP/1.0\" 200 1 "`: "no status of three digits",
	} {
		if got := parse(t, p, line); got.err == "" {
			t.Errorf("%q was read as %+v", line, got)
		} else {
			require.Contains(t, got.err, want, line)
		}
	}
}

func TestVirtualHosts(t *testing.T) {
	p := newTestParser(t, VHost, "host+ip", "", "a.example "+lineA)
	const rest = ` 1.2.3.4 - - [10/Oct/2000:13:55:36 -0700] "GET / HTTP/1.0" 200 1`
	require.Equal(t, "shop.example|1.2.3.4", parse(t, p, "shop.example:443"+rest).key)
	require.Equal(t, "shop.example|1.2.3.4", parse(t, p, "shop.example"+rest).key)
	require.Equal(t, "[::1]|1.2.3.4", parse(t, p, "[::1]:80"+rest).key)
	require.Contains(t, parse(t, p, rest).err, "no virtual host and address")
}

func TestAddresses(t *testing.T) {
	for text, want := range map[string]string{
		"1.2.3.4":                    "1.2.3.4",
		"1.2.3.4:80":                 "1.2.3.4",
		"64:ff9b::192.0.2.1":         "192.0.2.1",
		"[64:ff9b::c000:201]:80":     "192.0.2.1",
		"[2001:db8::1]":              "2001:db8::/64",
		"[2001:db8::1]:80":           "2001:db8::/64",
		"2001:db8:1:2::a:33003":      "2001:db8:1:2::/64",
		"2001:db8:1:2:3:4:5:6:33003": "2001:db8:1:2::/64",
		"2001:db8:ffff:ffff:ffff::9": "2001:db8:ffff:ffff::/64",
		"::ffff:1.2.3.4":             "1.2.3.4",
		"[::ffff:1.2.3.4]:80":        "1.2.3.4",
		"fe80::1%eth0":               "fe80::/64",
		"[2001:db8::1":               "",
		"[2001:db8::1]80":            "",
		"[1.2.3.4]":                  "",
		"1.2.3":                      "",
		"1.2.3.4.5":                  "",
		"1.2.3.256":                  "",
		"1.2.3.04":                   "",
		"1.2.3.4:":                   "",
		"1.2.3.4:x":                  "",
		"1.2.3.4:70000":              "",
		"unix:":                      "",
		"not:an:address":             "",
		"12:00:00":                   "",
		"":                           "",
	} {
		a, _, ok := parseAddress([]byte(text))
		got := ""
		if ok {
			got = string(appendNetwork(nil, a))
		}
		if got != want {
			t.Errorf("%q is read as %q, want %q", text, got, want)
		}
	}
}

func TestFieldsThatTheFormatLacks(t *testing.T) {
	for _, field := range []string{"session", "host"} {
		_, _, err := readText(t, lineA, Options{Key: key(t, "ip+"+field)})
		require.EqualError(t, err, `log: the log has no field "`+field+`", but ip, peer, user, method, path, status, referer, agent, time`)
	}
}

func TestParseKey(t *testing.T) {
	require.Equal(t, "method+path", key(t, "method+path").String())
	require.Equal(t, "addr:peer+path", key(t, "addr:peer+path").String())
	for _, s := range []string{"", "+", "ip+", "+ip", "ip++user", "addr:", "ip+addr:"} {
		_, err := ParseKey(s)
		require.ErrorContains(t, err, "want a field")
	}
}

func TestReadingAccessLinesAllocatesNothing(t *testing.T) {
	p := newTestParser(t, Combined, "ip+path", "", lineA)
	line := []byte(`127.0.0.1 - - [10/Oct/2000:13:55:36 -0700] "GET /a.gif HTTP/1.0" 200 2326 "-" "curl"`)
	var e Entry
	require.Zero(t, testing.AllocsPerRun(100, func() {
		e.Key = e.Key[:0]
		if err := p.parse(line, &e); err != nil {
			t.Fatal(err)
		}
	}))
}
