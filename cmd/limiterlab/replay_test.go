package main

import (
	"bytes"
	"compress/gzip"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/logs"
	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/samplelog"
)

var (
	update   = flag.Bool("update", false, "write what the replay prints to testdata and docs")
	logLines = flag.Int("lines", 100_000, "lines of the log of BenchmarkReplay")
)

// runReplay runs the subcommand.
func runReplay(t *testing.T, args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = run(t.Context(), append([]string{replayCommand}, args...), &out, &errs)
	return code, out.String(), errs.String()
}

// write writes a file and returns its path.
func write(t *testing.T, name, content string) string {
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	return path
}

func TestReplayGolden(t *testing.T) {
	code, got, stderr := runReplay(t, "-limit", "10/m", "-processes", "5", "-outage", "14:00-14:03", "-suggest", "1", "-top", "5", "testdata/access.log")
	require.Equal(t, exitOK, code, stderr)
	require.Empty(t, stderr)
	const golden = "testdata/access.txt"
	if *update {
		require.NoError(t, os.WriteFile(golden, []byte(got), 0o600))
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	require.Equal(t, string(want), got)

	docs, err := os.ReadFile("../../docs/replay.md")
	require.NoError(t, err)
	require.Contains(t, string(docs), got, "docs/replay.md shows what is printed")
}

func TestReplayWritesAPage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "report.html")
	code, stdout, stderr := runReplay(t, "-limit", "10/m", "-html", path, "testdata/access.log")
	require.Equal(t, exitOK, code, stderr)
	require.True(t, strings.HasSuffix(stdout, "\nPage: "+path+"\n"))
	page, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Contains(t, string(page), "<title>10/m for each ip</title>")
	require.Contains(t, string(page), "2001:db8:1:2::/64")
}

func TestReplayOfStdin(t *testing.T) {
	log, err := os.Open("testdata/access.log")
	require.NoError(t, err)
	defer log.Close()
	stdin := os.Stdin
	defer func() { os.Stdin = stdin }()
	os.Stdin = log
	code, stdout, stderr := runReplay(t, "-limit", "10/m", "-suggest", "1")
	require.Equal(t, exitOK, code, stderr)
	require.Contains(t, stdout, "over stdin (combined)")
	require.Contains(t, stdout, "that takes another reading")
	require.Contains(t, stdout, "denied                 416   28.28 %")
}

func TestReplayOfSeveralFilesOfOtherFormats(t *testing.T) {
	json := write(t, "a.json", `{"ts":"2026-03-14T13:00:00Z","tenant":"t1","route":"/a"}
{"ts":"2026-03-14T13:00:01Z","tenant":"t1","route":"/a"}
{"ts":"2026-03-14T13:00:01Z","tenant":"t1","route":"/b"}
`)
	csv := write(t, "b.csv", "route,ts,tenant\n/a,1773493202,t1\n/a,1773493203,\n")
	code, stdout, stderr := runReplay(t, "-limit", "1/m", json, "-key", "tenant+route", csv)
	require.Equal(t, exitOK, code, stderr)
	for _, want := range []string{"a.json and 1 more (json, csv)", "t1 /a", "requests                 4", "denied                   2", "not counted above: 1."} {
		require.Contains(t, stdout, want)
	}
}

func TestReplayReportsWhatItCouldRead(t *testing.T) {
	log, err := os.ReadFile("testdata/access.log")
	require.NoError(t, err)
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	_, err = w.Write(log)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	cut := write(t, "cut.gz", packed.String()[:packed.Len()/2])
	code, stdout, stderr := runReplay(t, "-limit", "10/m", "-suggest", "1", cut)
	require.Equal(t, exitFailed, code)
	require.Contains(t, stdout, "10/m for each ip, over "+cut)
	require.Contains(t, stdout, "So it is the smallest")
	require.Contains(t, stderr, "unexpected EOF")
	require.Equal(t, 1, strings.Count(stderr, "\n"), "it is said once, however often the log is read")
}

func TestReplayOfWhatCannotBeRead(t *testing.T) {
	for _, tt := range []struct {
		name string
		code int
		args []string
		want string
	}{
		{"no such file", exitFailed, []string{"no/such.log"}, "no/such.log: no such file"},
		{"a folder", exitFailed, []string{"testdata"}, "testdata is a folder"},
		{"no log", exitFailed, []string{write(t, "a", "Dear diary,\n")}, "no line could be read: line 1: it is in none of the formats: \"Dear diary,\". These are understood, also inside the lines of syslog, Docker, Kubernetes and compose:\n" + logs.FormatsHelp},
		{"nothing", exitFailed, []string{write(t, "a", "")}, `no request with the key "ip" was found`},
		{"no user", exitFailed, []string{"-key", "user", write(t, "a", `1.1.1.1 - - [14/Mar/2026:13:50:00 +0100] "GET / HTTP/1.1" 200 1`)}, `no request with the key "user" was found`},
		{"another format", exitFailed, []string{"-format", "json", "testdata/access.log"}, "line 1: no JSON object on one line"},
		{"an unknown field", exitUsage, []string{"-key", "session", "testdata/access.log"}, `the log has no field "session", but ip, peer, user`},
		{"an unknown JSON field", exitUsage, []string{"-key", "session", write(t, "a", `{"time":1,"id":2}`)}, `the log has no field "session", but time, id`},
		{"no time", exitUsage, []string{write(t, "a", `{"at":1,"ip":2}`)}, "no field of the usual names holds the time: name it with -time-field; the log has at, ip"},
		{"a page that can't be written", exitFailed, []string{"-html", t.TempDir(), "testdata/access.log"}, "is a directory"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			code, _, stderr := runReplay(t, append([]string{"-limit", "10/m"}, tt.args...)...)
			require.Equal(t, tt.code, code)
			require.Contains(t, stderr, tt.want)
		})
	}
}

// TestReplayOfEveryKind: every kind of log gives the same decisions without a
// flag, and no note. Five of the seven requests are of clients that come twice.
func TestReplayOfEveryKind(t *testing.T) {
	kinds, err := os.ReadFile("internal/logs/testdata/kinds.txt")
	require.NoError(t, err)
	for _, section := range strings.Split(string(kinds), "\n=== ")[1:] {
		name, lines, _ := strings.Cut(section, "\n")
		t.Run(name, func(t *testing.T) {
			code, stdout, stderr := runReplay(t, "-limit", "1/m", write(t, "a.log", lines))
			require.Equal(t, exitOK, code, stderr)
			require.Empty(t, stderr)
			require.Contains(t, stdout, "\nallowed                  4   57.14 %\ndenied                   3   42.86 %\n")
		})
	}
}

// TestReplayDoubtsItsKeys: keys that do not look like clients are noted.
func TestReplayDoubtsItsKeys(t *testing.T) {
	var log strings.Builder
	for i := range 40 {
		fmt.Fprintf(&log, `{"ts":%d.5,"client_ip":"10.0.0.%d","one":"10.0.0.1","name":"web","addr":"203.0.113.%d:%d","n":%d,"account_id":%d,"session":"s%d","at":"2026-05-06T07:08:%02dZ"}`+"\n",
			1778051289+i, 1+i%2, 1+i%4, 4000+i, i%7, i%7, i, i)
	}
	path := write(t, "a.json", log.String())
	for key, want := range map[string]string{
		"addr:one":       "Nearly all requests have the key 10.0.0.1, a private address: is it a balancer's?",
		"addr:client_ip": "Nearly all requests have one of 2 private addresses as a key: are they balancers'?",
		"addr":           "The keys have ports, so that each connection has a key of its own: -key addr:FIELD cuts the port.",
		"at":             "The keys are times: do they name clients?",
		"ts":             "The keys are times: do they name clients?",
		"n":              "The keys are numbers: do they name clients?",
		"session":        "Nearly every request has a key of its own: do the keys name clients?",
		"name":           "",
		"account_id":     "",
		"addr:addr":      "",
	} {
		code, _, stderr := runReplay(t, "-limit", "1/m", "-key", key, path)
		require.Equal(t, exitOK, code, key)
		if want == "" {
			require.Empty(t, stderr, key)
		} else {
			require.Contains(t, stderr, "limiterlab: note: "+want, key)
		}
	}
	page := filepath.Join(t.TempDir(), "report.html")
	code, _, _ := runReplay(t, "-limit", "1/m", "-key", "session", "-html", page, path)
	require.Equal(t, exitOK, code)
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	require.Contains(t, string(text), "Nearly every request has a key of its own")

	code, stdout, stderr := runReplay(t, "-limit", "1/m", path)
	require.Equal(t, exitUsage, code)
	require.Empty(t, stdout, "no report on the keys of balancers")
	require.Contains(t, stderr, `nearly all lines have the private address 10.0.0.1 in "client_ip", as of a balancer`)
}

// TestReplayDoubtsTheTime: a log whose times are all the same is noted.
func TestReplayDoubtsTheTime(t *testing.T) {
	line := `203.0.113.1 - - [14/Mar/2026:13:50:00 +0100] "GET / HTTP/1.1" 200 1` + "\n"
	code, _, stderr := runReplay(t, "-limit", "1/m", write(t, "a.log", strings.Repeat(line, 40)))
	require.Equal(t, exitOK, code)
	require.Contains(t, stderr, "limiterlab: note: All requests have the same time")
	require.Contains(t, stderr, "limiterlab: note: Nearly all requests have the key 203.0.113.1: is it one client?")
}

// TestReplayDoubtsLinesOfOneRequest: a log with two lines for each request is noted, by
// their IDs.
func TestReplayDoubtsLinesOfOneRequest(t *testing.T) {
	for name, tc := range map[string]struct {
		form string
		want string
	}{
		"two lines":    {`{"ts":%d.5,"ip":"203.0.113.%d","request_id":"r%d"}`, "limiterlab: note: 20 lines have the request ID of an earlier one"},
		"nested":       {`{"ts":%d.5,"ip":"203.0.113.%d","req":{"id":"r%d"}}`, "limiterlab: note: 20 lines have the request ID of an earlier one"},
		"no ID":        {`{"ts":%d.5,"ip":"203.0.113.%d","request_id":"-","n":%d}`, ""},
		"another name": {`{"ts":%d.5,"ip":"203.0.113.%d","trace_id":"r%d"}`, ""},
	} {
		var log strings.Builder
		for i := range 40 {
			fmt.Fprintf(&log, tc.form+"\n", 1778051289+i, 1+i%4, i/2)
		}
		code, _, stderr := runReplay(t, "-limit", "1/m", write(t, "a.json", log.String()))
		require.Equal(t, exitOK, code, name)
		require.Contains(t, stderr, tc.want, name)
		require.Equal(t, tc.want == "", stderr == "", name)
	}
}

func TestReplayCountsWhatItPassesOver(t *testing.T) {
	log := `{"level":"info","ts":1778051289.5,"logger":"admin","msg":"admin endpoint started"}
{"level":"info","ts":1778051290.5,"logger":"http.log.access","request":{"client_ip":"203.0.113.1","method":"GET","uri":"/"}}
`
	code, stdout, stderr := runReplay(t, "-limit", "1/m", write(t, "a.json", log))
	require.Equal(t, exitOK, code, stderr)
	require.Contains(t, stdout, "1 of 2 lines is no request, and was passed over.\n")
	require.Contains(t, stdout, "a.json, line 1: a line of the logger admin: {")
	require.Contains(t, stdout, "The client is in the field \"request.client_ip\".\n")
}

func TestWrongReplayFlags(t *testing.T) {
	for args, want := range map[string]string{
		"":                                     "-limit is required",
		"-limit fast a.log":                    `invalid value "fast" for flag -limit: limiter: limit "fast"`,
		"-limit unlimited":                     "neither unlimited nor nothing",
		"-limit 1/m -key ip+":                  `key "ip+": want a field`,
		"-limit 1/m -format xml":               "-format must be one of json, vhost, combined, w3c, elb, haproxy, envoy, s3, csv",
		"-limit 1/m -processes 0":              "-processes must be 1 to 200",
		"-limit 1/m -spread wide":              "-spread must be round-robin or key",
		"-limit 1/m -outage noon":              `invalid value "noon" for flag -outage`,
		"-limit 1/m -suggest 100":              "-suggest must be a percentage from 0, below 100",
		"-limit 1/m -suggest -0.5":             "-suggest must be a percentage from 0, below 100",
		"-limit 1/m -suggest NaN":              "-suggest must be a percentage from 0, below 100",
		"-limit 1/m -top -1":                   "-top must not be negative",
		"-limit 1/m -max-keys 0":               "-max-keys must be 1 to",
		"-limit 1/m -html no/such/place.html":  "-html: there is no folder no/such",
		"-limit 1/m - -":                       "stdin can be read only once",
		"-limit 1/m a.log -nonsense":           "not defined: -nonsense",
		"-limit 1/m -top -1 -max-keys 0 a.log": "-top must not be negative\n-max-keys",
	} {
		code, stdout, stderr := runReplay(t, strings.Fields(args)...)
		if code != exitUsage || !strings.Contains(stderr, want) || stdout != "" {
			t.Errorf("%q gives %d, %q, want %q", args, code, stderr, want)
		}
		require.Contains(t, stderr, "limiterlab replay -h")
	}
}

func TestReplayHelp(t *testing.T) {
	code, stdout, stderr := runReplay(t, "-h")
	require.Equal(t, exitOK, code)
	require.Empty(t, stderr)
	for _, want := range []string{
		"Usage: limiterlab replay -limit 100/m",
		"  -limit limit           the `limit`",
		"  -suggest percent ",
		"(default 1000000)\n",
		logs.FormatsHelp,
	} {
		require.Contains(t, stdout, strings.ReplaceAll(want, "`", ""))
	}
	require.NotContains(t, stdout, "(default -1)")
	for line := range strings.Lines(stdout) {
		require.LessOrEqual(t, len(line), 120)
	}
	require.Contains(t, usage(), "limiterlab replay")
}

// BenchmarkReplay measures the reading of a log in combined format with a
// million possible clients; -lines says how long it is.
func BenchmarkReplay(b *testing.B) {
	path := filepath.Join(b.TempDir(), "access.log")
	f, err := os.Create(path)
	require.NoError(b, err)
	require.NoError(b, samplelog.Write(f, samplelog.Options{Lines: *logLines, Clients: 1_000_000, PerSecond: 2000, Seed: 1}))
	require.NoError(b, f.Close())
	for _, flags := range []string{"-max-keys 10000", "", "-processes 10 -outage 14:00-14:05", "-suggest 0.1"} {
		b.Run("flags="+strings.ReplaceAll(flags, " ", "_"), func(b *testing.B) {
			for b.Loop() {
				var stdout, stderr bytes.Buffer
				args := append([]string{replayCommand, "-limit", "100/m", path}, strings.Fields(flags)...)
				require.Equal(b, exitOK, run(b.Context(), args, &stdout, &stderr), stderr.String())
			}
			b.ReportMetric(float64(b.N)*float64(*logLines)/b.Elapsed().Seconds(), "lines/s")
			var mem runtime.MemStats
			runtime.ReadMemStats(&mem)
			b.ReportMetric(float64(mem.Sys)/1e6, "MB")
		})
	}
}
