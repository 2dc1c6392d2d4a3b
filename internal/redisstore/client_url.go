package redisstore

import (
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// ClientFromURL returns a tuned client for a URL of Redis, or an error that names the
// part at fault and has no text of the URL, because any of it may be a piece of a password.
func ClientFromURL(text string) (redis.UniversalClient, error) {
	o, err := OptionsFromURL(text)
	if err != nil {
		return nil, err
	}
	return redis.NewUniversalClient(Tune(o)), nil
}

// OptionsFromURL returns the options that a URL sets, not yet tuned. The functions of
// go-redis read the options in its query.
func OptionsFromURL(text string) (*redis.UniversalOptions, error) {
	u, err := splitURL(strings.TrimSpace(text))
	if err != nil {
		return nil, urlError(err)
	}
	o, err := u.options()
	if err == nil {
		err = checkSizes(o)
	}
	if err != nil {
		return nil, urlError(err)
	}
	return o, nil
}

// The largest sizes that a URL may set. At much larger ones go-redis panics, or takes
// all memory.
const (
	maxPool   = 100_000
	maxBuffer = 16 << 20
)

func checkSizes(o *redis.UniversalOptions) error {
	for _, size := range []struct {
		name        string
		is          int
		least, most int
	}{
		{"pool_size", o.PoolSize, 0, maxPool},
		{"pipeline_pool_size", o.PipelinePoolSize, -1, maxPool},
		{"pipeline_read_buffer_size", o.PipelineReadBufferSize, 0, maxBuffer},
		{"pipeline_write_buffer_size", o.PipelineWriteBufferSize, 0, maxBuffer},
		{"min_idle_conns", o.MinIdleConns, 0, maxPool},
		{"max_idle_conns", o.MaxIdleConns, 0, maxPool},
		{"max_active_conns", o.MaxActiveConns, 0, maxPool},
		{"max_concurrent_dials", o.MaxConcurrentDials, 0, maxPool},
	} {
		if size.is < size.least || size.is > size.most {
			return fmt.Errorf("query: %s: want %d to %d", size.name, size.least, size.most)
		}
	}
	return nil
}

func urlError(err error) error {
	return fmt.Errorf("limiter: URL of Redis: %s", strings.ReplaceAll(err.Error(), "\n", "; "))
}

// scheme is the meaning of a URL's scheme.
type scheme struct{ sentinel, tls, unix bool }

var schemes = map[string]scheme{
	"redis":           {},
	"rediss":          {tls: true},
	"unix":            {unix: true},
	"sentinel":        {sentinel: true},
	"redis+sentinel":  {sentinel: true},
	"redis-sentinel":  {sentinel: true},
	"sentinels":       {sentinel: true, tls: true},
	"rediss+sentinel": {sentinel: true, tls: true},
	"rediss-sentinel": {sentinel: true, tls: true},
}

var errEmpty = errors.New("it is empty: is the variable with it set?")

var errScheme = errors.New("scheme: want redis://, rediss://, unix:// or sentinel://, or an address without a scheme, host:port")

var errAt = errors.New("path or query: has an @: in a user or password, /, ? and # are %2F, %3F and %23; in a path or query, @ is %40")

// redisURL is a URL of Redis, split into its parts.
type redisURL struct {
	scheme
	user  *url.Userinfo
	hosts []string // host:port, where the port may be missing
	path  string
	query url.Values
}

// splitURL splits a URL. net/url alone can't: it knows one host, and its errors have
// text of the URL.
func splitURL(text string) (*redisURL, error) {
	if strings.TrimSpace(text) == "" {
		return nil, errEmpty
	}
	name, rest, ok := strings.Cut(text, "://")
	if !ok {
		return splitAddresses(text)
	}
	u := &redisURL{}
	if u.scheme, ok = schemes[strings.ToLower(name)]; !ok {
		return nil, errScheme
	}
	authority, tail := rest, ""
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		authority, tail = rest[:i], rest[i:]
	}
	// With an unescaped /, ? or # in a password, the host and the options are pieces of
	// it. unix:///path has no host, and its path may have an @.
	if strings.Contains(tail, "@") && !strings.Contains(authority, "@") && (authority != "" || !u.unix) {
		return nil, errAt
	}
	if err := errors.Join(u.splitAuthority(authority), u.splitTail(tail)); err != nil {
		return nil, err
	}
	return u, nil
}

// splitAddresses is splitURL for addresses and sockets without a scheme.
func splitAddresses(text string) (*redisURL, error) {
	u := &redisURL{query: url.Values{}}
	if strings.HasPrefix(text, "/") {
		path, query, _ := strings.Cut(text, "?")
		u.unix, u.path = true, path
		if err := u.splitQuery(query); err != nil {
			return nil, err
		}
		return u, nil
	}
	u.hosts = strings.Split(text, ",")
	for _, h := range u.hosts {
		if _, port, err := net.SplitHostPort(h); err != nil || port == "" {
			return nil, errScheme
		}
	}
	return u, nil
}

func (u *redisURL) splitAuthority(text string) error {
	user, hosts := "", text
	if i := strings.LastIndexByte(text, '@'); i >= 0 {
		user, hosts = text[:i], text[i+1:]
		if _, more, _ := strings.Cut(user, "@"); strings.Contains(more, ",") {
			return errors.New("user or password: they stand once, before the first host; in them @ is %40")
		}
		parsed, err := url.Parse("redis://" + user + "@host")
		if err != nil {
			return errors.New("user or password: has a character that must be written as % and two hexadecimal digits")
		}
		u.user = parsed.User
	}
	if hosts != "" {
		u.hosts = strings.Split(hosts, ",")
	}
	return nil
}

func (u *redisURL) splitTail(text string) (err error) {
	text, _, fragment := strings.Cut(text, "#")
	if fragment {
		return errors.New("fragment: want none")
	}
	path, query, _ := strings.Cut(text, "?")
	if u.path, err = url.PathUnescape(path); err != nil {
		return errors.New("path: has a % without two hexadecimal digits")
	}
	return u.splitQuery(query)
}

func (u *redisURL) splitQuery(text string) (err error) {
	if u.query, err = url.ParseQuery(text); err != nil {
		return errors.New("query: has a semicolon, or a % without two hexadecimal digits")
	}
	return nil
}

// options returns the options of a client.
func (u *redisURL) options() (*redis.UniversalOptions, error) {
	cluster, err := u.takeBool("cluster")
	if err != nil {
		return nil, err
	}
	u.hosts = append(u.hosts, u.query["addr"]...)
	u.query.Del("addr")
	master := u.query.Get("master_name") != ""
	switch {
	case cluster && (u.unix || u.sentinel || master):
		return nil, errors.New("query: cluster: not for a socket or Sentinels")
	case u.unix:
		return u.socket()
	case u.sentinel && !master:
		if err := u.takeMaster(); err != nil {
			return nil, err
		}
		return u.failover("26379")
	case u.sentinel:
		return u.failover("26379")
	case master:
		return u.failover("6379") // as go-redis has it
	case cluster || len(u.hosts) > 1:
		return u.cluster()
	}
	return u.standalone()
}

func (u *redisURL) socket() (*redis.UniversalOptions, error) {
	if len(u.hosts) > 0 {
		return nil, errors.New("host: a socket has none: unix:///path/to/redis.sock")
	}
	if strings.Trim(u.path, "/ ") == "" {
		return nil, errors.New("path: want that of a socket: unix:///path/to/redis.sock")
	}
	o, err := parseQuery(u, parseServer)
	if err != nil {
		return nil, err
	}
	o.Addrs = []string{u.path}
	return o, nil
}

func (u *redisURL) standalone() (*redis.UniversalOptions, error) {
	o, err := parseQuery(u, parseServer)
	if err != nil {
		return nil, err
	}
	return o, u.setAddrs(o, "6379")
}

func (u *redisURL) cluster() (*redis.UniversalOptions, error) {
	skip, err := u.takeBool("skip_verify")
	if err != nil {
		return nil, err
	}
	if strings.Trim(u.path, "/0") != "" {
		return nil, errors.New("path: want none, or database 0, the only one of a Cluster")
	}
	if db := u.query.Get("db"); db != "" && db != "0" {
		return nil, errors.New("query: db: want 0, the only database of a Cluster")
	}
	u.path = ""
	u.query.Del("db")
	o, err := parseQuery(u, parseCluster)
	if err != nil {
		return nil, err
	}
	if o.TLSConfig != nil {
		o.TLSConfig.InsecureSkipVerify = skip
	}
	o.IsClusterMode = true
	return o, u.setAddrs(o, "6379")
}

// takeMaster takes the name of the primary from the path of a Sentinel's URL, and leaves
// the database.
func (u *redisURL) takeMaster() error {
	name, db, _ := strings.Cut(strings.Trim(u.path, "/"), "/")
	if name == "" {
		return errors.New("path: want the name of the primary: sentinel://host1,host2/name")
	}
	u.query.Set("master_name", name)
	u.path = "/" + db
	return nil
}

// failover returns the options of a client by way of Sentinels. In go-redis's form, the
// user of the URL is that of the Sentinels, and the servers' is in the query. In the form
// of others, the user of a sentinel:// URL is that of the servers.
func (u *redisURL) failover(port string) (*redis.UniversalOptions, error) {
	for _, name := range []string{"route_by_latency", "route_randomly", "replica_only", "use_disconnected_replicas"} {
		if u.query.Has(name) {
			return nil, fmt.Errorf("query: %s: not for a limiter, which writes to the primary", name)
		}
	}
	if u.sentinel && u.user != nil && !u.query.Has("username") && !u.query.Has("password") {
		password, _ := u.user.Password()
		u.query.Set("username", u.user.Username())
		u.query.Set("password", password)
		u.user = nil
	}
	if u.query.Has("sentinel_username") || u.query.Has("sentinel_password") {
		u.user = url.UserPassword(u.query.Get("sentinel_username"), u.query.Get("sentinel_password"))
		u.query.Del("sentinel_username")
		u.query.Del("sentinel_password")
	}
	o, err := parseQuery(u, parseFailover)
	if err != nil {
		return nil, err
	}
	return o, u.setAddrs(o, port)
}

// setAddrs sets the addresses. The certificate of a server is checked against the name
// by which the client knows the server. Only if the URL has one host, and no Sentinels,
// that is the host, also for the other nodes of a Cluster.
func (u *redisURL) setAddrs(o *redis.UniversalOptions, port string) error {
	if len(u.hosts) == 0 {
		u.hosts = []string{""}
	}
	var names []string
	for i, text := range u.hosts {
		host, err := parseHost(text, port, len(u.hosts) == 1)
		if err != nil {
			return fmt.Errorf("host %d of %d: %w", i+1, len(u.hosts), err)
		}
		name, _, _ := net.SplitHostPort(host)
		names = append(names, name)
		o.Addrs = append(o.Addrs, host)
	}
	slices.Sort(names)
	if names = slices.Compact(names); o.TLSConfig != nil && len(names) == 1 && o.MasterName == "" {
		o.TLSConfig.ServerName = names[0]
	}
	return nil
}

// parseHost returns host:port of a text that may lack the port, and, if it is alone, the
// host.
func parseHost(text, port string, alone bool) (string, error) {
	u, err := url.Parse("redis://" + text)
	if err != nil || strings.ContainsAny(text, "/?#@ ") || !strings.HasPrefix(text, "[") && strings.Count(text, ":") > 1 {
		return "", errors.New("want host:port")
	}
	host := u.Hostname()
	if p := u.Port(); p != "" {
		if n, err := strconv.Atoi(p); err != nil || n < 1 || n > 65535 {
			return "", errors.New("port: want 1 to 65535")
		}
		port = p
	}
	if host == "" && !alone {
		return "", errors.New("it is empty")
	}
	if host == "" {
		host = "localhost"
	}
	return net.JoinHostPort(host, port), nil
}

// takeBool takes a parameter that is true or false from the query.
func (u *redisURL) takeBool(name string) (bool, error) {
	text := u.query.Get(name)
	u.query.Del(name)
	switch text {
	case "true", "1":
		return true, nil
	case "false", "0", "":
		return false, nil
	}
	return false, fmt.Errorf("query: %s: want true or false", name)
}

// The parsers of go-redis.
func parseServer(text string) (any, error)   { return redis.ParseURL(text) }
func parseCluster(text string) (any, error)  { return redis.ParseClusterURL(text) }
func parseFailover(text string) (any, error) { return redis.ParseFailoverURL(text) }

// parseQuery returns the options that a parser of go-redis finds in the user, the path
// and the query.
func parseQuery(u *redisURL, parse func(string) (any, error)) (*redis.UniversalOptions, error) {
	try := func(q url.Values) (any, error) {
		whole := url.URL{Scheme: "redis", User: u.user, Host: "host", Path: u.path, RawQuery: q.Encode()}
		switch {
		case u.unix:
			whole.Scheme, whole.Host = "unix", ""
		case u.tls:
			whole.Scheme = "rediss"
		}
		return parse(whole.String())
	}
	if _, err := try(nil); err != nil {
		return nil, errors.New("path: want the number of a database, or none")
	}
	parsed, err := try(u.query)
	if err != nil {
		return nil, faultOf(u.query, try)
	}
	o := &redis.UniversalOptions{}
	copyFields(o, parsed)
	o.Addrs = nil
	if o.DB < 0 {
		return nil, errors.New("database: its number is negative")
	}
	if o.TLSConfig != nil {
		o.TLSConfig.ServerName, o.TLSConfig.MinVersion = "", tls.VersionTLS12
	}
	if f, ok := parsed.(*redis.FailoverOptions); ok {
		o.SentinelUsername, o.SentinelPassword = f.SentinelUsername, f.SentinelPassword
	}
	return o, nil
}

// faultOf returns an error for the first parameter that a parser refuses. Its name is
// in the error if it is an option of go-redis; otherwise it may be anything.
func faultOf(query url.Values, parse func(url.Values) (any, error)) error {
	known := func(name string, parse func(url.Values) (any, error)) bool {
		_, err := parse(url.Values{name: {""}})
		return err == nil
	}
	for _, name := range slices.Sorted(maps.Keys(query)) {
		if _, err := parse(url.Values{name: query[name]}); err == nil {
			continue
		}
		if known(name, parse) {
			return fmt.Errorf("query: %s: its value is not understood", name)
		}
		for _, other := range []func(string) (any, error){parseServer, parseCluster, parseFailover} {
			if known(name, func(q url.Values) (any, error) { return other("rediss://host?" + q.Encode()) }) {
				return fmt.Errorf("query: %s: not an option of this kind of URL", name)
			}
		}
		return errors.New("query: a parameter is no option of go-redis")
	}
	return errors.New("query: not understood")
}

// copyFields sets the fields of the structure to which have the name and the type of a
// field of the structure from.
func copyFields(to, from any) {
	dst, src := reflect.ValueOf(to).Elem(), reflect.ValueOf(from).Elem()
	for f, v := range src.Fields() {
		if d := dst.FieldByName(f.Name); f.IsExported() && d.IsValid() && d.Type() == f.Type {
			d.Set(v)
		}
	}
}
