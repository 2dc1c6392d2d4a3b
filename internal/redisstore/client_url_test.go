package redisstore

import (
	"crypto/tls"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/seed-e56e777b/limiter/internal/servertest"
	"github.com/seed-e56e777b/limiter/internal/servertest/redisserver"
)

// options are the options of a URL that a test compares.
type options struct {
	addrs                []string
	user, password       string
	sentinel, sentinelPW string
	db                   int
	master               string
	cluster              bool
	tls                  string // ServerName; "-": no TLS; "any": of each address
}

func optionsOf(o *redis.UniversalOptions) options {
	got := options{
		o.Addrs, o.Username, o.Password, o.SentinelUsername, o.SentinelPassword, o.DB, o.MasterName, o.IsClusterMode, "-",
	}
	if o.TLSConfig != nil {
		got.tls = o.TLSConfig.ServerName
		if got.tls == "" {
			got.tls = "any"
		}
	}
	return got
}

// TestOptionsFromURL: each kind of URL, and the forms of it that are in use.
func TestOptionsFromURL(t *testing.T) {
	t.Parallel()
	at := func(addrs ...string) options { return options{addrs: addrs, tls: "-"} }
	cluster := func(addrs ...string) options { return options{addrs: addrs, tls: "-", cluster: true} }
	behind := func(addrs ...string) options { return options{addrs: addrs, tls: "-", master: "primus"} }
	with := func(o options, change func(o *options)) options {
		change(&o)
		return o
	}
	login := func(o options) options {
		return with(o, func(o *options) { o.user, o.password = "limiter", "p@ss/w:d" })
	}
	database := func(o options, n int) options { return with(o, func(o *options) { o.db = n }) }
	secure := func(o options, name string) options { return with(o, func(o *options) { o.tls = name }) }
	sentinels := func(o options) options {
		return with(o, func(o *options) { o.sentinel, o.sentinelPW = "guard", "s3cret" })
	}
	for text, want := range map[string]options{
		"redis://":                              at("localhost:6379"),
		"redis://localhost":                     at("localhost:6379"),
		"redis://localhost:6380/\n":             at("localhost:6380"),
		"REDIS://localhost":                     at("localhost:6379"),
		"localhost:6379":                        at("localhost:6379"),
		"[::1]:6379":                            at("[::1]:6379"),
		"redis://[::1]":                         at("[::1]:6379"),
		"redis://[fe80::1%25eth0]:6380":         at("[fe80::1%eth0]:6380"),
		"redis://localhost/3":                   database(at("localhost:6379"), 3),
		"redis://localhost?db=3":                database(at("localhost:6379"), 3),
		"redis://limiter:p@ss%2fw:d@a:1":        login(at("a:1")),
		"redis://limiter:p%40ss%2Fw%3Ad@a:1/2":  database(login(at("a:1")), 2),
		"redis://:p%40ss@a":                     with(at("a:6379"), func(o *options) { o.password = "p@ss" }),
		"rediss://a.example:6380":               secure(at("a.example:6380"), "a.example"),
		"unix:///run/redis.sock":                at("/run/redis.sock"),
		"/run/redis.sock":                       at("/run/redis.sock"),
		"/run/redis.sock?db=1":                  database(at("/run/redis.sock"), 1),
		"/run/a@b%20#.sock":                     at("/run/a@b%20#.sock"),
		"unix:///run/a@b.sock":                  at("/run/a@b.sock"),
		"unix://limiter:p%40ss%2Fw:d@/r.s?db=1": database(login(at("/r.s")), 1),

		"redis://a:1,b:2,c": cluster("a:1", "b:2", "c:6379"),
		"a:1,b:2":           cluster("a:1", "b:2"),
		"redis://limiter:p%40ss%2Fw:d@a,b/0?db=0": login(cluster("a:6379", "b:6379")),
		"redis://a?addr=b:2&addr=c:3":             cluster("a:6379", "b:2", "c:3"),
		"redis://a?cluster=true":                  cluster("a:6379"),
		"rediss://a?cluster=1":                    secure(cluster("a:6379"), "a"),
		"rediss://a:1,a:2":                        secure(cluster("a:1", "a:2"), "a"),
		"rediss://a,b,a":                          secure(cluster("a:6379", "b:6379", "a:6379"), "any"),

		"sentinel://a,b:2/primus":                  behind("a:26379", "b:2"),
		"redis-sentinel://a/primus/":               behind("a:26379"),
		"redis+sentinel://a/primus/4":              database(behind("a:26379"), 4),
		"sentinel://a?master_name=primus":          behind("a:26379"),
		"sentinel://a?master_name=primus&db=4":     database(behind("a:26379"), 4),
		"sentinels://a/primus":                     secure(behind("a:26379"), "any"),
		"rediss-sentinel://a/primus":               secure(behind("a:26379"), "any"),
		"rediss+sentinel://a/primus":               secure(behind("a:26379"), "any"),
		"sentinel://limiter:p%40ss%2Fw:d@a/primus": login(behind("a:26379")),
		"sentinel://limiter:p%40ss%2Fw:d@a,b:1/primus?sentinel_username=guard&sentinel_password=s3cret": sentinels(login(behind("a:26379", "b:1"))),
		"sentinel://guard:s3cret@a/primus?username=limiter&password=p%40ss%2Fw:d":                       sentinels(login(behind("a:26379"))),
		"redis://guard:s3cret@a:26379/4?master_name=primus&username=limiter&password=p@ss/w:d&addr=b:2": database(sentinels(login(behind("a:26379", "b:2"))), 4),
		"rediss://a:1?master_name=primus": secure(behind("a:1"), "any"),
	} {
		o, err := OptionsFromURL(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		require.Equal(t, want, optionsOf(o), text)
		client, err := ClientFromURL(text)
		require.NoError(t, err, text)
		require.NoError(t, client.Close())
	}
}

// TestURLWinsOverTune: the options in a query stay, and what it lacks is tuned.
func TestURLWinsOverTune(t *testing.T) {
	t.Parallel()
	const query = "read_timeout=3s&dial_timeout=7s&max_retries=2&pool_size=5&client_name=us&protocol=2&min_retry_backoff=1s"
	for _, base := range []string{"redis://a?", "redis://a,b?max_redirects=9&", "sentinel://a/primus?", "unix:///r.sock?"} {
		client, err := ClientFromURL(base + query)
		require.NoError(t, err, base)
		closeLater(t, client)
		var o redis.Options
		switch c := client.(type) {
		case *redis.Client:
			o = *c.Options()
		case *redis.ClusterClient:
			copyFields(&o, c.Options())
			require.Equal(t, 9, c.Options().MaxRedirects)
		}
		require.Equal(t, []any{3 * time.Second, 7 * time.Second, 2, 5, "us", 2, time.Second},
			[]any{o.ReadTimeout, o.DialTimeout, o.MaxRetries, o.PoolSize, o.ClientName, o.Protocol, o.MinRetryBackoff}, base)
		require.Equal(t, []any{300 * time.Millisecond, 1, true}, []any{o.WriteTimeout, o.DialerRetries, o.ContextTimeoutEnabled}, base)
	}
	o, err := OptionsFromURL("rediss://a?skip_verify=true")
	require.NoError(t, err)
	require.True(t, o.TLSConfig.InsecureSkipVerify)
	require.EqualValues(t, tls.VersionTLS12, o.TLSConfig.MinVersion)
	o, err = OptionsFromURL("rediss://a,b?skip_verify=true")
	require.NoError(t, err)
	require.True(t, o.TLSConfig.InsecureSkipVerify)
}

// TestURLErrorsNameThePart: each bad URL has an error that says which part of it is bad.
func TestURLErrorsNameThePart(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                                   "it is empty",
		"nonsense":                           "scheme: want ",
		"http://a":                           "scheme: want ",
		"redis:/a:6379":                      "scheme: want ",
		"user:pw@a:6379":                     "scheme: want ",
		"redis://a:0":                        "host 1 of 1: port: want 1 to 65535",
		"redis://a:65536":                    "host 1 of 1: port: want 1 to 65535",
		"redis://a:port":                     "host 1 of 1: want host:port",
		"redis://a,,b":                       "host 2 of 3: it is empty",
		"redis://a,b,":                       "host 3 of 3: it is empty",
		"redis://::1":                        "host 1 of 1: want host:port",
		"redis://a?addr=b/c":                 "host 2 of 2: want host:port",
		"redis://a b":                        "host 1 of 1: want host:port",
		"redis://u:p%zz@a":                   "user or password: has a character",
		"redis://u:p d@a":                    "user or password: has a character",
		"redis://u:p@a:1,u:p@b:2":            "user or password: they stand once",
		"redis://a/x":                        "path: want the number of a database",
		"redis://a/1/2":                      "path: want the number of a database",
		"redis://a/%zz":                      "path: has a %",
		"redis://a/-1":                       "database: its number is negative",
		"redis://a#x":                        "fragment: want none",
		"redis://a?x=%zz":                    "query: has a semicolon",
		"redis://a?read_timeout=soon":        "query: read_timeout: its value is not understood",
		"redis://a?db=x":                     "query: db: its value is not understood",
		"redis://a?reed_timeout=1s":          "query: a parameter is no option of go-redis",
		"redis://a?max_redirects=1":          "query: max_redirects: not an option of this kind of URL",
		"redis://a?skip_verify=true":         "query: skip_verify: not an option of this kind of URL",
		"redis://a?password=x":               "query: password: not an option of this kind of URL",
		"redis://a?pool_size=-1":             "query: pool_size: want 0 to 100000",
		"redis://a?pool_size=99999999999":    "query: pool_size: want 0 to 100000",
		"redis://a,b?min_idle_conns=2000000": "query: min_idle_conns: want 0 to 100000",
		"redis://a,b/1":                      "path: want none, or database 0",
		"redis://a,b?db=1":                   "query: db: want 0",
		"redis://a?cluster=yes":              "query: cluster: want true or false",
		"redis://a?cluster=1&master_name=x":  "query: cluster: not for a socket or Sentinels",
		"sentinel://a/x?cluster=1":           "query: cluster: not for a socket or Sentinels",
		"unix:///r.sock?cluster=1":           "query: cluster: not for a socket or Sentinels",
		"sentinel://a":                       "path: want the name of the primary",
		"sentinel://a/primus/x":              "path: want the number of a database",
		"sentinel://a/primus?replica_only=1": "query: replica_only: not for a limiter",
		"unix://":                            "path: want that of a socket",
		"unix://run/redis.sock":              "host: a socket has none",
		"/r.sock?db=x":                       "query: db: its value is not understood",
		"/r.sock?%zz":                        "query: has a semicolon",
		"/r.sock?cluster=1":                  "query: cluster: not for a socket or Sentinels",
		"?db=1":                              "scheme: want ",
		"/?db=1":                             "path: want that of a socket",
		"redis://u:1/2@a":                    "in a user or password, /, ? and # are %2F, %3F and %23",
		"redis://u:1#2@a":                    "in a user or password, /, ? and # are %2F, %3F and %23",
		"redis://u:12?client_name=x@a":       "in a user or password, /, ? and # are %2F, %3F and %23",
		"redis://12?client_name=x@a":         "in a user or password, /, ? and # are %2F, %3F and %23",
		"redis://?client_name=x@a":           "in a user or password, /, ? and # are %2F, %3F and %23",
		"sentinel://a/primus?password=p@ss":  "in a path or query, @ is %40",
		"unix://u:1/2@/r.sock":               "in a user or password, /, ? and # are %2F, %3F and %23",
	} {
		client, err := ClientFromURL(text)
		if err == nil || !strings.HasPrefix(err.Error(), "limiter: URL of Redis: ") || !strings.Contains(err.Error(), want) || client != nil {
			t.Errorf("%q: %v, want %q in it", text, err, want)
		}
	}
}

// marker is the password in malformed URLs.
const marker = "hUnTeR2"

// FuzzURLErrorsKeepSecrets: no error has text of a URL, wherever a password stands in it
// and however it is broken; and no URL panics.
func FuzzURLErrorsKeepSecrets(f *testing.F) {
	for _, s := range []string{
		"hUnTeR2", "hUnTeR2://a", "redis:hUnTeR2", "redis:/u:hUnTeR2@a", "redis://hUnTeR2", "redis://hUnTeR2:a", "redis://a:hUnTeR2", "redis://u:hUnTeR2@a:x",
		"redis://u:%hUnTeR2@a", "redis://u:hUnTeR2%@a", "redis://u: hUnTeR2@a", "redis://u:hUnTeR2\x7f@a", "redis://u:[hUnTeR2]@a:b:c", "redis://u:hUnTeR2@[::1",
		"redis://u:1/hUnTeR2@a", "redis://u:1?hUnTeR2@a", "redis://u:1#hUnTeR2@a", "redis://u:1?hUnTeR2=2@a", "redis://u:1?db=hUnTeR2@a", "redis://:/hUnTeR2@a",
		"redis://u:hUnTeR2@a/x", "redis://u:hUnTeR2@a?x", "redis://u:hUnTeR2@a?db=x", "redis://u:hUnTeR2@a,u:hUnTeR2@b", "redis://u:hUnTeR2@a,,b", "redis://a:1,u:hUnTeR2@b:x",
		"redis://a/hUnTeR2", "redis://a/1/hUnTeR2", "redis://a?hUnTeR2", "redis://a?password=hUnTeR2", "redis://a?read_timeout=hUnTeR2", "redis://a?addr=hUnTeR2", "redis://a?addr=u:hUnTeR2@b:1",
		"redis://a?pool_size=hUnTeR2", "redis://a?protocol=hUnTeR2", "redis://a?pool_fifo=hUnTeR2", "redis://a?%hUnTeR2=1", "redis://a?x=%hUnTeR2", "redis://a?hUnTeR2;x=1", "redis://a?cluster=hUnTeR2",
		"rediss://u:hUnTeR2@a?skip_verify=hUnTeR2", "redis://a,b/hUnTeR2", "redis://a,b?db=hUnTeR2", "redis://a,b?hUnTeR2=1", "redis://a,b?max_redirects=hUnTeR2",
		"sentinel://u:hUnTeR2@a", "sentinel://a/m/hUnTeR2", "sentinel://a/m?password=hUnTeR2&db=x", "sentinel://a/m?sentinel_password=hUnTeR2&x=1", "sentinel://a/m?hUnTeR2=x",
		"redis://a?master_name=m&password=hUnTeR2&db=x", "redis://u:hUnTeR2@a?master_name=m&addr=x", "unix://u:hUnTeR2@a/b", "unix://u:hUnTeR2@", "unix:///r?hUnTeR2", "/r?hUnTeR2", "/r?db=hUnTeR2", "/hUnTeR2?x", "redis://u:12?client_name=hUnTeR2@a", "unix:///r?db=hUnTeR2",
		"redis://u:hUnTeR2@a?pool_size=-5", "redis://u:hUnTeR2@a?pool_size=999999999", "redis://u:hUnTeR2@a:99999", "\x00redis://u:hUnTeR2@a", "redis://\xff:hUnTeR2@a",
	} {
		f.Add(s)
		f.Add(strings.ReplaceAll(s, marker, url.QueryEscape("@/?#"+marker)))
		f.Add(strings.ReplaceAll(s, marker, "@/?#"+marker))
		f.Add(strings.ReplaceAll(s, marker, "x,"+marker+":y@"))
	}
	f.Fuzz(func(t *testing.T, text string) {
		client, err := ClientFromURL(text)
		switch {
		case err == nil:
			require.NoError(t, client.Close())
		case strings.Contains(strings.ToLower(err.Error()), strings.ToLower(marker)):
			t.Errorf("%q: %v", text, err)
		}
	})
}

// TestTuneOptions: the fields that are set stay, the others are as Tune's, and the dialer
// guards and follows the options.
func TestTuneOptions(t *testing.T) {
	t.Parallel()
	o := &redis.Options{Addr: "a:1", Network: "tcp", DB: 2, ReadTimeout: time.Minute, MaxRetries: 5}
	require.Same(t, o, TuneOptions(o))
	require.Equal(t, []any{"a:1", "tcp", 2, time.Minute, 5}, []any{o.Addr, o.Network, o.DB, o.ReadTimeout, o.MaxRetries})
	universal := Tune(&redis.UniversalOptions{})
	want, got := &redis.Options{}, TuneOptions(&redis.Options{})
	copyFields(want, universal)
	want.Dialer, got.Dialer = nil, nil
	require.Equal(t, want, got)

	server := servertest.Server(t, redisserver.Options{})
	o = TuneOptions(&redis.Options{Addr: server.Addr()})
	c, err := o.Dialer(t.Context(), "tcp", server.Addr())
	require.NoError(t, err)
	require.IsType(t, &checked{}, c)
	require.NoError(t, c.Close())
	o.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	o.DialTimeout = 200 * time.Millisecond
	_, err = o.Dialer(t.Context(), "tcp", server.Addr())
	require.Error(t, err, "TLS was set after TuneOptions")
}

// works fails the test unless a limiter's calls reach Redis by the URL.
func works(t *testing.T, text string) {
	t.Helper()
	rdb, err := ClientFromURL(text)
	require.NoError(t, err)
	closeLater(t, rdb)
	everyCall(t, New(rdb, "limiter"))
}

// TestClientFromURLReachesRedis: by TCP and by a socket, with a password and with a user,
// and without a timeout for dialing.
func TestClientFromURLReachesRedis(t *testing.T) {
	t.Parallel()
	socket := t.TempDir() + "/redis.sock"
	server := servertest.Server(t, redisserver.Options{Password: "p@ss/w?d#", Args: []string{"--unixsocket", socket}})
	grantTo(t, aclNode, server)
	password := url.QueryEscape("p@ss/w?d#")
	for _, text := range []string{
		"redis://:" + password + "@" + server.Addr(),
		"redis://default:" + password + "@" + server.Addr() + "/0?dial_timeout=0",
		"redis://limiter:pw@" + server.Addr(),
		"unix://:" + password + "@" + socket,
		"unix://limiter:pw@" + socket,
	} {
		works(t, text)
	}
	rdb, err := ClientFromURL("redis://limiter:" + marker + "@" + server.Addr())
	require.NoError(t, err)
	closeLater(t, rdb)
	err = allFail(t, New(rdb, "limiter"), 1)
	require.ErrorContains(t, err, "WRONGPASS")
	require.NotContains(t, err.Error(), marker)
}

// TestClientFromURLReachesACluster: by several hosts, and by one that is said to be of a
// Cluster.
func TestClientFromURLReachesACluster(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("runs without -short, where only TestCluster starts a Cluster")
	}
	cluster := servertest.Cluster(t)
	grantTo(t, aclCluster, cluster.Nodes...)
	addrs := cluster.Addrs()
	works(t, "redis://"+strings.Join(addrs, ","))
	works(t, strings.Join(addrs, ","))
	works(t, "redis://"+addrs[0]+"?addr="+addrs[1])
	works(t, "redis://limiter:pw@"+addrs[0]+"?cluster=true")
}

// TestClientFromURLReachesThePrimary: by way of Sentinels, which have a password of their
// own.
func TestClientFromURLReachesThePrimary(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("runs without -short: Sentinels take seconds to start")
	}
	s := servertest.SentinelWith(t, redisserver.Options{Password: "pw", Sentinel: "guard"})
	hosts := strings.Join(s.Addrs(), ",")
	works(t, "sentinel://:pw@"+hosts+"/"+redisserver.MasterName+"?sentinel_password=guard")
	works(t, "redis://:guard@"+s.Addrs()[0]+"?password=pw&master_name="+redisserver.MasterName)

	open := servertest.Sentinel(t)
	works(t, "sentinel://"+strings.Join(open.Addrs(), ",")+"/"+redisserver.MasterName+"/0")
}
