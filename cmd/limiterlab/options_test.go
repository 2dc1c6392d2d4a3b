package main

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-e56e777b/limiter"
)

func TestOptions(t *testing.T) {
	o, err := parseOptions(nil)
	require.NoError(t, err)
	require.Equal(t, options{
		duration: 30 * time.Second,
		limit:    limiter.Limit{Rate: 1000, Burst: 100},
		n:        5,
		load:     3,
		seed:     1,
		svg:      "limiterlab.svg",
	}, o)

	o, err = parseOptions(strings.Fields("-for 1m -limit 10/s -n 7 -load 0.5 -seed 9 -server redis-server -processes -stop 20s -svg= -q"))
	require.NoError(t, err)
	require.Equal(t, options{
		duration:  time.Minute,
		limit:     limiter.Limit{Rate: 10, Burst: 10},
		n:         7,
		load:      0.5,
		seed:      9,
		server:    "redis-server",
		processes: true,
		stop:      20 * time.Second,
		quiet:     true,
	}, o)

	for _, args := range []string{"-waiters 4", "-waiters 200", "-http :0 -waiters 1 -load 2"} {
		_, err = parseOptions(strings.Fields(args))
		require.NoError(t, err, args)
	}

	for given, want := range map[string]string{
		":8080":           "localhost:8080",
		"0.0.0.0:8080":    "0.0.0.0:8080",
		"[::1]:0":         "[::1]:0",
		"my.machine:http": "my.machine:http",
	} {
		o, err = parseOptions([]string{"-http", given})
		require.NoError(t, err)
		require.Equal(t, want, o.http)
	}
}

func TestWrongFlags(t *testing.T) {
	for args, want := range map[string]string{
		"-for 1s":                          "-for must be at least 3s",
		"-for soon":                        `invalid value "soon" for flag -for`,
		"-n 0":                             "-n must be 1 to 200",
		"-n 1000":                          "-n must be 1 to 200",
		"-load 0":                          "-load must be above 0",
		"-load NaN":                        "-load must be above 0",
		"-load Inf":                        "-load must be above 0",
		"-waiters -1":                      "-waiters must be 0 to 1000 in all processes together",
		"-waiters 201":                     "-waiters must be 0 to 1000 in all processes together",
		"-http :1 -waiters 201":            "-waiters must be 0 to 1000 in all processes together",
		"-waiters 3":                       "15 workers use at most 1500 tokens per second, and few would wait: -waiters must be at least 4",
		"-waiters 20 -load 2":              "-load is not for a run with -waiters",
		"-waiters 200 -for 1h":             "360 million requests, more than the 50 million that the lab keeps: lower -n, -waiters or -for",
		"-limit fast":                      `invalid value "fast" for flag -limit`,
		"-limit unlimited":                 "neither unlimited nor nothing",
		"-limit 1000000/s":                 "90 million requests",
		"-server valkey":                   `-server can only be "redis-server"`,
		"-redis redis://here,there":        "-redis: want the URL of one server, not of a Cluster",
		"-redis sentinel://here/name":      "-redis: want the URL of one server, not of Sentinels",
		"-redis redis://u:1/secret@here":   "-redis: limiter: URL of Redis: path or query: has an @",
		"-redis ftp://here":                "-redis: limiter: URL of Redis: scheme: want redis://",
		"-svg no/such/place.svg":           "-svg: there is no folder no/such",
		"-stop 5s":                         "-stop needs -processes",
		"-processes -stop 30s":             "an instant within the run",
		"-processes -stop -1s":             "an instant within the run",
		"-nonsense":                        "not defined: -nonsense",
		"-http 8080":                       "-http: want :8080 or host:8080",
		"-http :1 -for 5s -q":              "-for is not for a run with -http, which has no end and draws its own chart\n-q is not",
		"-http :1 -svg x.svg":              "-svg is not for a run with -http",
		"-http :1 -limit 10001/s":          "100010 calls per second",
		"-http :1 -limit 100/s -load 2000": "200000 calls per second",
		"-http :1 -n 0":                    "-n must be 1 to 200",
		"-q extra":                         `"extra" was given`,
		"nonsense":                         `there is no subcommand "nonsense"`,
		"-n 0 -load 0":                     "-n must be 1 to 200\n-load",
		"-server redis-server -redis redis://here": "exclude each other",
	} {
		t.Run(args, func(t *testing.T) {
			var stdout, stderr strings.Builder
			require.Equal(t, exitUsage, run(t.Context(), strings.Fields(args), &stdout, &stderr))
			require.Contains(t, stderr.String(), want)
			require.Contains(t, stderr.String(), "limiterlab -h")
			require.Empty(t, stdout.String())
		})
	}
}

func TestHelp(t *testing.T) {
	for _, flag := range []string{"-h", "-help", "--help"} {
		var stdout, stderr strings.Builder
		require.Equal(t, exitOK, run(t.Context(), []string{flag}, &stdout, &stderr))
		require.Empty(t, stderr.String())
		for _, want := range []string{
			"Usage: limiterlab [flags]",
			"  -for duration          length of the run; Redis is away in its middle third (default 30s)\n",
			"  -limit limit           the fleet's limit (default \"1000/s burst 100\")\n",
			"  -waiters workers       workers of each process that wait for tokens, in place of traffic (default 0)\n",
			"  -q                     no line a second, only the report at the end\n",
		} {
			require.Contains(t, stdout.String(), want)
		}
		for line := range strings.Lines(stdout.String()) {
			require.LessOrEqual(t, len(line), 110)
		}
	}
}
