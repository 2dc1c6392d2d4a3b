package limiter_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/time/rate"

	"github.com/seed-e56e777b/limiter"
)

func ExampleLimiter_Allow() {
	l, err := limiter.New(limiter.Config{Limit: limiter.Per(3, time.Hour)})
	if err != nil {
		panic(err)
	}
	defer l.Close()
	for range 4 {
		fmt.Println(l.Allow("user:42"))
	}
	// Output:
	// true
	// true
	// true
	// false
}

// A pool of workers, in as many processes as you like, that together start no
// more jobs than the limit says.
func ExampleLimiter_Wait() {
	l, err := limiter.New(limiter.Config{Limit: limiter.Limit{Rate: 100, Burst: 1}})
	if err != nil {
		panic(err)
	}
	defer l.Close()
	do, putBack := func(int) {}, func(int) {}
	ctx := context.Background()
	jobs := make(chan int)
	var workers sync.WaitGroup
	for range 4 {
		workers.Go(func() {
			for job := range jobs {
				if err := l.Wait(ctx, "jobs"); err != nil {
					putBack(job) // ctx is done, or its deadline would pass first
					return
				}
				do(job)
			}
		})
	}
	begin := time.Now()
	for job := range 11 {
		jobs <- job
	}
	close(jobs)
	workers.Wait()
	fmt.Println("11 jobs at 100/s took at least 100 ms:", time.Since(begin) >= 100*time.Millisecond)
	// Output: 11 jobs at 100/s took at least 100 ms: true
}

// A hot path looks its key up once, and drops the messages over the limit.
func ExampleLimiter_Key() {
	l, err := limiter.New(limiter.Config{Limit: limiter.Per(2, time.Hour)})
	if err != nil {
		panic(err)
	}
	defer l.Close()
	messages, handle := slices.Values([]string{"a", "b", "c"}), func(msg string) { fmt.Println(msg) }

	tenant := l.Key("tenant:7")
	for msg := range messages {
		if tenant.Allow() { // in memory: no I/O, no allocation
			handle(msg)
		}
	}
	// Output:
	// a
	// b
}

func ExampleLimiter_Take() {
	l, err := limiter.New(limiter.Config{Limit: limiter.Per(100, time.Minute)})
	if err != nil {
		panic(err)
	}
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		res := l.Take(r.Header.Get("X-Api-Key"))
		if !res.Allowed {
			if res.RetryAfter != rate.InfDuration { // else never: the cost exceeds the burst
				w.Header().Set("Retry-After", strconv.Itoa(int(res.RetryAfter.Seconds())+1))
			}
			w.WriteHeader(http.StatusTooManyRequests)
			return
		}
		fmt.Fprintln(w, "hello")
	})
	res := l.Take("key")
	fmt.Println(res.Allowed, res.Limit, res.Remaining)
	// Output: true 100/m 99
}

// complete answers a prompt with a language model, and returns the tokens used.
func complete(prompt string) (used int) { return 500 * len(prompt) }

// A token budget for a language model: take an estimate before the call, and settle it
// after the call.
func ExampleLimiter_Estimate() {
	l, err := limiter.New(limiter.Config{Limit: limiter.Per(10_000, time.Minute)})
	if err != nil {
		panic(err)
	}
	prompt := "Why me?"
	estimate, r := l.Estimate("tenant:7", 2500)
	if r.Allowed {
		estimate.Settle(complete(prompt)) // the tokens used: 3500
	}
	fmt.Println(l.Peek("tenant:7").Remaining)
	// Output: 6500
}

// Requests and tokens in one decision. A request costs 1, and the tokens are settled.
func ExampleEstimateAll() {
	requests, err := limiter.New(limiter.Config{Limit: limiter.Per(60, time.Minute), Prefix: "requests"})
	if err != nil {
		panic(err)
	}
	tokens, err := limiter.New(limiter.Config{Limit: limiter.Per(10_000, time.Minute), Prefix: "tokens"})
	if err != nil {
		panic(err)
	}
	prompt := "Why?"
	es, r, _ := limiter.EstimateAll(requests.Part("tenant:7", 1), tokens.Part("tenant:7", 2500))
	if r.Allowed {
		es[1].Settle(complete(prompt))
	}
	fmt.Println(requests.Peek("tenant:7").Remaining, tokens.Peek("tenant:7").Remaining)
	// Output: 59 8000
}

// Bytes are known when they are sent, and nothing is estimated.
func ExampleLimiter_Charge() {
	l, err := limiter.New(limiter.Config{Limit: limiter.Per(1<<20, time.Second)})
	if err != nil {
		panic(err)
	}
	if l.AllowN("user:42", 0) { // unless it is in debt
		sent := 3 << 20
		l.Charge("user:42", sent)
	}
	fmt.Println(l.AllowN("user:42", 0))
	// Output: false
}

func ExampleLimiter_Reserve() {
	l, err := limiter.New(limiter.Config{Limit: limiter.Limit{Rate: 1, Burst: 1}})
	if err != nil {
		panic(err)
	}
	first, second := l.Reserve("crawl:example.org"), l.Reserve("crawl:example.org")
	fmt.Println(first.Delay(), second.Delay().Round(time.Second))
	second.Cancel()
	// Output: 0s 1s
}

func ExampleLimiter_Hold() {
	l, err := limiter.New(limiter.Config{Limit: limiter.Per(100, time.Minute)})
	if err != nil {
		panic(err)
	}
	// The server answered 429 with Retry-After: 30.
	l.Hold("api.example.com", 30*time.Second)
	r := l.Take("api.example.com")
	fmt.Println(r.Allowed, r.RetryAfter.Round(time.Second) >= 30*time.Second)
	// Output: false true
}

func ExampleConfig_limitFor() {
	plans := map[string]limiter.Limit{"pro": limiter.Per(1000, time.Minute), "internal": {Rate: rate.Inf}}
	l, err := limiter.New(limiter.Config{
		Limit: limiter.Per(60, time.Minute),
		LimitFor: func(key string) (limiter.Limit, bool) {
			lim, ok := plans[key]
			return lim, ok
		},
	})
	if err != nil {
		panic(err)
	}
	for _, key := range []string{"free", "pro", "internal"} {
		fmt.Println(key, l.Take(key).Limit)
	}
	// Output:
	// free 60/m
	// pro 1000/m
	// internal unlimited
}

func ExampleParseLimit() {
	for _, s := range []string{"100/15m", "10/s burst 50", "unlimited"} {
		lim, err := limiter.ParseLimit(s)
		fmt.Println(lim, err)
	}
	// Output:
	// 100/15m <nil>
	// 10/s burst 50 <nil>
	// unlimited <nil>
}

// Two windows on one key are two limiters, which share a client under prefixes
// of their own.
// A limit is text in JSON, YAML, flags and whatever else reads texts.
func ExampleLimit_UnmarshalText() {
	var config struct{ API, Login limiter.Limit }
	if err := json.Unmarshal([]byte(`{"API": "100/15m", "Login": "5/min"}`), &config); err != nil {
		panic(err)
	}
	flags := flag.NewFlagSet("server", flag.ContinueOnError)
	flags.TextVar(&config.Login, "login", config.Login, "logins of an address")
	if err := flags.Parse([]string{"-login", "20/s burst 5"}); err != nil {
		panic(err)
	}
	text, err := json.Marshal(config)
	if err != nil {
		panic(err)
	}
	fmt.Println(string(text))
	// Output: {"API":"100/15m","Login":"20/s burst 5"}
}

func ExampleTakeAll() {
	client := redis.NewUniversalClient(limiter.Tune(&redis.UniversalOptions{Addrs: []string{"localhost:6379"}}))
	defer client.Close()
	second, err := limiter.New(limiter.Config{Limit: limiter.Per(10, time.Second), Redis: client, Prefix: "api:second", Processes: 1})
	if err != nil {
		panic(err)
	}
	defer second.Close()
	hour, err := limiter.New(limiter.Config{Limit: limiter.Per(1000, time.Hour), Redis: client, Prefix: "api:hour", Processes: 1})
	if err != nil {
		panic(err)
	}
	defer hour.Close()

	user := "user:42"
	r, i := limiter.TakeAll(second.Part(user, 1), hour.Part(user, 1))
	fmt.Println(r.Allowed, "tightest:", []string{"second", "hour"}[i], r.Limit, r.Remaining)
	// Output: true tightest: second 10/s 9
}

func ExampleWaitAll() {
	requests, err := limiter.New(limiter.Config{Limit: limiter.Per(60, time.Minute)})
	if err != nil {
		panic(err)
	}
	tokens, err := limiter.New(limiter.Config{Limit: limiter.Per(10_000, time.Minute)})
	if err != nil {
		panic(err)
	}
	ctx := context.Background()
	if err := limiter.WaitAll(ctx, requests.Part("tenant:7", 1), tokens.Part("tenant:7", 2500)); err != nil {
		fmt.Println(err) // nothing was taken of either
		return
	}
	fmt.Println(requests.Peek("tenant:7").Remaining, tokens.Peek("tenant:7").Remaining)
	// Output: 59 7500
}

func ExampleConfig_shadow() {
	l, err := limiter.New(limiter.Config{
		Limit:  limiter.Per(2, time.Hour),
		Shadow: func(key string) bool { return strings.HasPrefix(key, "partner:") },
	})
	if err != nil {
		panic(err)
	}
	defer l.Close()
	for range 3 {
		r := l.Take("partner:acme")
		fmt.Println(r.Allowed, r.Shadow, r.Remaining)
	}
	s := l.Stats()
	fmt.Println("allowed", s.Allowed, "of these over the limit", s.Shadowed)
	// Output:
	// true false 1
	// true false 0
	// true true 0
	// allowed 3 of these over the limit 1
}

// A Redis of one server: TLS, a user of the limiter's own.
func ExampleTune() {
	pem, err := os.ReadFile("/etc/redis/ca.pem")
	if err != nil {
		fmt.Println(err)
		return
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		fmt.Println("no certificate in /etc/redis/ca.pem")
		return
	}
	client := redis.NewUniversalClient(limiter.Tune(&redis.UniversalOptions{
		Addrs:     []string{"redis.example.com:6380"},
		Username:  "limiter",
		Password:  os.Getenv("REDIS_PASSWORD"),
		TLSConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, // nil: no TLS
	}))
	l, err := limiter.New(limiter.Config{Limit: limiter.Per(100, time.Minute), Redis: client, Processes: 8})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close() // runs after l.Close
	defer l.Close()
	fmt.Println(l.Allow("user:42"))
}

// A Redis that the environment names: one server, a Cluster or Sentinels.
func ExampleClientFromURL() {
	client, err := limiter.ClientFromURL(os.Getenv("REDIS_URL"))
	if err != nil {
		fmt.Println(err)
		return
	}
	l, err := limiter.New(limiter.Config{Limit: limiter.Per(100, time.Minute), Redis: client, Processes: 8})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close() // runs after l.Close
	defer l.Close()
	fmt.Println(l.Allow("user:42"))
}

// An error of a URL says where it is, and keeps the password.
func ExampleClientFromURL_error() {
	_, err := limiter.ClientFromURL("redis://user:secret@host1:6379,host2:port")
	fmt.Println(err)
	// Output: limiter: URL of Redis: host 2 of 2: want host:port
}

// Options of one server, for redis.NewClient.
func ExampleTuneOptions() {
	client := redis.NewClient(limiter.TuneOptions(&redis.Options{Addr: "localhost:6379", ReadTimeout: time.Second}))
	defer client.Close()
	o := client.Options()
	fmt.Println(o.ReadTimeout, o.WriteTimeout)
	// Output: 1s 300ms
}

func ExampleTune_sentinel() {
	client := redis.NewUniversalClient(limiter.Tune(&redis.UniversalOptions{
		MasterName:       "mymaster",
		Addrs:            []string{"sentinel-1:26379", "sentinel-2:26379", "sentinel-3:26379"},
		Username:         "limiter", // on the primary and its replicas
		Password:         os.Getenv("REDIS_PASSWORD"),
		SentinelUsername: "limiter", // on the Sentinels
		SentinelPassword: os.Getenv("SENTINEL_PASSWORD"),
		TLSConfig:        &tls.Config{MinVersion: tls.VersionTLS12}, // for both; nil: no TLS
	}))
	_ = client.Close()
}

func ExampleTune_cluster() {
	client := redis.NewUniversalClient(limiter.Tune(&redis.UniversalOptions{
		Addrs:         []string{"node-1:6379", "node-2:6379", "node-3:6379"},
		IsClusterMode: true, // needed where there is but one address
		Username:      "limiter",
		Password:      os.Getenv("REDIS_PASSWORD"),
		TLSConfig:     &tls.Config{MinVersion: tls.VersionTLS12},
	}))
	_ = client.Close()
}

func ExampleTune_ring() {
	o := limiter.Tune(&redis.UniversalOptions{
		TLSConfig: &tls.Config{MinVersion: tls.VersionTLS12}, // for the Dialer; nil: no TLS
	})
	client := redis.NewRing(&redis.RingOptions{
		Addrs:    map[string]string{"one": "redis-1:6379", "two": "redis-2:6379"},
		Username: "limiter",
		Password: os.Getenv("REDIS_PASSWORD"),

		Dialer:   o.Dialer,
		PoolSize: o.PoolSize, PipelinePoolSize: o.PipelinePoolSize, PoolTimeout: o.PoolTimeout,
		MaxRetries: o.MaxRetries, DialerRetries: o.DialerRetries, DialTimeout: o.DialTimeout,
		ReadTimeout: o.ReadTimeout, WriteTimeout: o.WriteTimeout,
		ContextTimeoutEnabled: o.ContextTimeoutEnabled, DisableIdentity: o.DisableIdentity,
	})
	_ = client.Close()
}

// What to log, or to answer a probe with.
func ExampleLimiter_Status() {
	l, err := limiter.New(limiter.Config{Limit: limiter.Per(100, time.Minute)})
	if err != nil {
		panic(err)
	}
	st := l.Status()
	switch {
	case st.State == limiter.Local, st.State == limiter.Synced:
		fmt.Println("well, in a fleet of", st.Processes)
	case errors.Is(st.Err, limiter.ErrClosed):
		fmt.Println("closed")
	default: // Connecting or Degraded
		fmt.Println(st.State, "since", st.Since, "because of", st.Err)
	}
	// Output: well, in a fleet of 1
}

// visitors is a map of limiters, as it is often seen: it grows without a bound.
type visitors struct {
	mu    sync.Mutex
	byKey map[string]*rate.Limiter
}

func (v *visitors) allow(key string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	l, ok := v.byKey[key]
	if !ok {
		l = rate.NewLimiter(10, 20)
		v.byKey[key] = l
	}
	return l.Allow()
}

// What comes in place of a map of x/time/rate limiters, and decides alike.
func Example_comingFromXTime() {
	before := visitors{byKey: map[string]*rate.Limiter{}}
	l, err := limiter.New(limiter.Config{Limit: limiter.Limit{Rate: 10, Burst: 20}, MaxKeys: 100_000})
	if err != nil {
		panic(err)
	}
	defer l.Close()
	same := true
	for range 21 {
		same = same && before.allow("user:42") == l.Allow("user:42")
	}
	fmt.Println(same)
	// Output: true
}

func ExampleLimiter_Wait_errors() {
	l, err := limiter.New(limiter.Config{Limit: limiter.Limit{Rate: 1, Burst: 1}})
	if err != nil {
		panic(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	fmt.Println(errors.Is(l.WaitN(ctx, "key", 2), limiter.ErrExceedsBurst))
	fmt.Println(l.Wait(ctx, "key"))
	fmt.Println(errors.Is(l.Wait(ctx, "key"), context.DeadlineExceeded))
	// Output:
	// true
	// <nil>
	// true
}

// What comes in place of redis_rate.
func Example_comingFromRedisRate() {
	client := redis.NewUniversalClient(limiter.Tune(&redis.UniversalOptions{Addrs: []string{"localhost:6379"}}))
	l, err := limiter.New(limiter.Config{Limit: limiter.Per(10, time.Second), Redis: client, Processes: 4})
	if err != nil {
		panic(err)
	}
	defer client.Close()
	defer l.Close()

	res := l.Take("project:123")
	if !res.Allowed {
		fmt.Println("too many requests, again in", res.RetryAfter)
	}
}

// TestTimeStandsInABubble: code that uses a limiter is tested in a bubble,
// whose clock is the limiter's.
func TestTimeStandsInABubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, err := limiter.New(limiter.Config{Limit: limiter.Per(2, time.Minute)})
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range []bool{true, true, false} {
			if got := l.Allow("user:42"); got != want {
				t.Errorf("request %d: %v, want %v", i, got, want)
			}
		}
		time.Sleep(30 * time.Second) // takes no time
		if !l.Allow("user:42") {
			t.Error("a token is back after half a minute")
		}
	})
}

// warmUp raises the limit from a tenth to the whole, in ten steps.
func warmUp(ctx context.Context, l *limiter.Limiter, full limiter.Limit, over time.Duration) error {
	for i := 1; i <= 10; i++ {
		step := limiter.Limit{Rate: full.Rate * rate.Limit(i) / 10, Burst: max(1, full.Burst*i/10)}
		if err := l.SetLimit(step); err != nil {
			return err
		}
		select {
		case <-time.After(over / 10):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// TestWarmUp: the recipe of docs/faq.md admits more in each tenth of the time.
func TestWarmUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		full := limiter.Per(100, time.Second)
		l, err := limiter.New(limiter.Config{Limit: full.WithBurst(10)})
		if err != nil {
			t.Fatal(err)
		}
		l.AllowN("k", 10)
		done := make(chan error, 1)
		go func() { done <- warmUp(t.Context(), l, full, time.Minute) }()
		for i := 1; i <= 10; i++ {
			admitted := 0
			for range 6000 { // of 1 ms each
				time.Sleep(time.Millisecond)
				if l.Allow("k") {
					admitted++
				}
			}
			if want := 60 * i; admitted < want-2 || admitted > want+12 {
				t.Errorf("step %d: %d admitted in 6 s, want %d", i, admitted, want)
			}
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		if got := l.Peek("k").Limit; got != full {
			t.Errorf("at the end the limit is %v, want %v", got, full)
		}
	})
}

// The keys that were denied most within the last minutes.
func ExampleLimiter_TopDenied() {
	l, err := limiter.New(limiter.Config{Limit: limiter.Per(100, time.Hour)})
	if err != nil {
		panic(err)
	}
	defer l.Close()
	for range 1000 {
		l.Allow("203.0.113.7")
	}
	for range 150 {
		l.Allow("<script>")
	}
	l.Allow("198.51.100.1")
	for _, d := range l.TopDenied(3) {
		fmt.Printf("%q was denied %d times\n", d.Key, d.Denied)
	}
	// Output:
	// "203.0.113.7" was denied 900 times
	// "<script>" was denied 50 times
}
