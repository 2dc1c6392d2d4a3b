package httplimit_test

import (
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/httplimit"
)

// request makes a request from 192.0.2.1.
func request(method, target string) *http.Request {
	return httptest.NewRequest(method, target, http.NoBody)
}

// answer sends a request through a handler.
func answer(h http.Handler, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// local returns a limiter that shares nothing, which is all that an example
// needs.
func local(lim limiter.Limit) *limiter.Limiter {
	l, err := limiter.New(limiter.Config{Limit: lim})
	if err != nil {
		panic(err)
	}
	return l
}

// One hundred requests per client address in a quarter of an hour.
func Example() {
	l, err := limiter.New(limiter.Config{Limit: limiter.Per(100, 15*time.Minute)})
	if err != nil {
		panic(err)
	}
	defer l.Close()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "hello") })
	handler := httplimit.New(l, httplimit.Options{})(mux)

	resp := answer(handler, request("GET", "/"))
	fmt.Println(resp.Code, resp.Header().Get("RateLimit-Policy"), resp.Header().Get("RateLimit"))
	for range 99 {
		answer(handler, request("GET", "/"))
	}
	resp = answer(handler, request("GET", "/"))
	fmt.Println(resp.Code, "retry after", resp.Header().Get("Retry-After"))
	fmt.Print(resp.Body)
	// Output:
	// 200 "default";q=100;w=900 "default";r=99;t=9
	// 429 retry after 9
	// {
	//   "type": "https://iana.org/assignments/http-problem-types#quota-exceeded",
	//   "title": "Quota Exceeded",
	//   "status": 429,
	//   "detail": "Too many requests: retry after the time that Retry-After gives.",
	//   "violated-policies": [
	//     "default"
	//   ]
	// }
}

// Behind a load balancer every connection comes from it. Accept its headers about
// clients, and no others.
func Example_trustedProxies() {
	l := local(limiter.Per(1, time.Minute))
	limit := httplimit.New(l, httplimit.Options{
		TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
	})
	handler := limit(http.NotFoundHandler())
	from := func(peer, forwarded string) int {
		r := request("GET", "/")
		r.RemoteAddr = peer
		r.Header.Set("X-Forwarded-For", forwarded)
		return answer(handler, r).Code
	}
	fmt.Println(from("10.0.0.2:80", "203.0.113.9"))
	fmt.Println(from("10.0.0.2:80", "203.0.113.10"))
	fmt.Println(from("10.0.0.2:80", "6.6.6.6, 203.0.113.9"), "for inventing a hop")
	fmt.Println(from("203.0.113.9:80", "6.6.6.6"), "for inventing it without the proxy")
	// Output:
	// 404
	// 404
	// 429 for inventing a hop
	// 429 for inventing it without the proxy
}

// A limit for each API key, by plan; the address is the key of those without.
func Example_perAPIKey() {
	plans := map[string]limiter.Limit{"key:alice": limiter.Per(1000, time.Minute)}
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
	limit := httplimit.New(l, httplimit.Options{
		Key: func(r *http.Request) string {
			if key := r.Header.Get("X-Api-Key"); key != "" {
				return "key:" + key
			}
			return "addr:" + httplimit.ClientKey(r, nil)
		},
		PolicyName: "plan",
	})
	handler := limit(http.NotFoundHandler())
	for _, key := range []string{"alice", "bob", ""} {
		r := request("GET", "/")
		r.Header.Set("X-Api-Key", key)
		fmt.Printf("%q: %s\n", key, answer(handler, r).Header().Get("RateLimit-Policy"))
	}
	// Output:
	// "alice": "plan";q=1000;w=60
	// "bob": "plan";q=60;w=60
	// "": "plan";q=60;w=60
}

// An export costs as much as ten other requests, and health checks are free.
func Example_costByRoute() {
	l := local(limiter.Per(100, time.Hour))
	limit := httplimit.New(l, httplimit.Options{
		Cost: func(r *http.Request) int {
			if strings.HasPrefix(r.URL.Path, "/export/") {
				return 10
			}
			return 1
		},
		Skip: func(r *http.Request) bool { return r.URL.Path == "/healthz" },
	})
	handler := limit(http.NotFoundHandler())
	for _, path := range []string{"/", "/export/2026", "/healthz"} {
		fmt.Printf("%s %s\n", path, answer(handler, request("GET", path)).Header().Get("RateLimit"))
	}
	// Output:
	// / "default";r=99;t=36
	// /export/2026 "default";r=89;t=396
	// /healthz
}

// Five failed logins per account and address in a quarter of an hour; those
// that succeed don't count.
func Example_logins() {
	l := local(limiter.Per(5, 15*time.Minute))
	login := func(w http.ResponseWriter, r *http.Request) {
		if subtle.ConstantTimeCompare([]byte(r.FormValue("password")), []byte("right")) == 0 {
			http.Error(w, "wrong", http.StatusUnauthorized)
			return
		}
		fmt.Fprintln(w, "welcome")
	}
	limit := httplimit.New(l, httplimit.Options{
		Key:            func(r *http.Request) string { return httplimit.ClientKey(r, nil) + " " + r.FormValue("user") },
		SkipSuccessful: true,
	})
	handler := limit(http.HandlerFunc(login))
	try := func(password string) int { return answer(handler, request("POST", "/?user=u&password="+password)).Code }
	for range 10 {
		try("right")
	}
	for range 5 {
		try("wrong")
	}
	fmt.Println(try("wrong"), try("right"))
	// Output: 429 429
}

// Another response to denied requests. The headers are already set.
func Example_denied() {
	l := local(limiter.Per(1, time.Minute))
	limit := httplimit.New(l, httplimit.Options{
		Denied: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "Come back in "+w.Header().Get("Retry-After")+" seconds.", http.StatusServiceUnavailable)
		}),
	})
	handler := limit(http.NotFoundHandler())
	answer(handler, request("GET", "/"))
	resp := answer(handler, request("GET", "/"))
	fmt.Print(resp.Code, " ", resp.Body)
	// Output: 503 Come back in 60 seconds.
}

// The limits of a user, a tenant and the service, all or nothing.
func ExampleOptions_parts() {
	users, tenants, service := local(limiter.Per(3, 10*time.Second)), local(limiter.Per(5, 10*time.Second)), local(limiter.Per(100, 10*time.Second))
	limit := httplimit.New(nil, httplimit.Options{
		Parts: func(r *http.Request) []limiter.Part {
			user, tenant := r.Header.Get("X-User"), r.Header.Get("X-Tenant") // of a session, after it was checked
			return []limiter.Part{
				users.Part(user, 1).Named("user"),
				tenants.Part(tenant, 1).Named("tenant"),
				service.Part("", 1).Named("service"),
			}
		},
	})
	handler := limit(http.NotFoundHandler())
	for range 3 {
		answer(handler, request("GET", "/"))
	}
	resp := answer(handler, request("GET", "/"))
	fmt.Println(resp.Code, resp.Header().Get("RateLimit-Policy"))
	fmt.Println("retry after", resp.Header().Get("Retry-After"), resp.Header().Get("RateLimit"))
	fmt.Println("the tenant has", tenants.Peek("").Remaining)
	// Output:
	// 429 "user";q=3;w=10, "tenant";q=5;w=10, "service";q=100;w=10
	// retry after 4 "user";r=0;t=4
	// the tenant has 2
}

func ExampleFromContext() {
	limit := httplimit.New(local(limiter.Per(100, time.Minute)), httplimit.Options{})
	handler := limit(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		res, _ := httplimit.FromContext(r.Context())
		fmt.Fprintln(w, res.Remaining, "requests left of", res.Limit.Burst)
	}))
	fmt.Print(answer(handler, request("GET", "/")).Body)
	// Output: 99 requests left of 100
}

// Requests a minute, and tokens of a language model a minute: these are estimated, and
// settled by the handler.
func ExamplePartsFromContext() {
	requests, tokens := local(limiter.Per(60, time.Minute)), local(limiter.Per(10_000, time.Minute))
	limit := httplimit.New(nil, httplimit.Options{
		Parts: func(*http.Request) []limiter.Part {
			return []limiter.Part{requests.Part("key", 1).Named("requests"), tokens.Part("key", 2500).Named("tokens")}
		},
	})
	answerPrompt := func(w http.ResponseWriter, _ *http.Request) (used int) {
		fmt.Fprintln(w, "yes")
		return 800
	}
	complete := limit(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		used := answerPrompt(w, r)
		httplimit.PartsFromContext(r.Context())[1].Settle(used) // the second part: an estimate of tokens
	}))
	answer(complete, request("POST", "/complete"))
	fmt.Println(requests.Peek("key").Remaining, tokens.Peek("key").Remaining)
	// Output: 59 9200
}

// Networks that have no limit, and networks that have no access.
func Example_networks() {
	l := local(limiter.Per(1, time.Hour))
	app := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") })
	trusted := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	allowed := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::/32")}
	denied := []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}

	in := func(networks []netip.Prefix, r *http.Request) bool {
		key := httplimit.ClientKey(r, trusted)
		client, err := netip.ParsePrefix(key) // IPv6: a /64
		if err != nil {
			addr, _ := netip.ParseAddr(key)
			client = netip.PrefixFrom(addr, addr.BitLen())
		}
		return slices.ContainsFunc(networks, func(n netip.Prefix) bool { return n.Contains(client.Addr()) })
	}
	limit := httplimit.New(l, httplimit.Options{
		TrustedProxies: trusted,
		Skip:           func(r *http.Request) bool { return in(allowed, r) },
	})(app)
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if in(denied, r) {
			http.Error(w, "forbidden", http.StatusForbidden)
			return
		}
		limit.ServeHTTP(w, r)
	})

	for _, client := range []string{"10.1.2.3", "2001:db8::7", "203.0.113.9", "198.51.100.1", "unknown"} {
		var codes []int
		for range 2 {
			r := request("GET", "/")
			r.Header.Set("X-Forwarded-For", client)
			codes = append(codes, answer(handler, r).Code)
		}
		fmt.Println(client, codes)
	}
	// Output:
	// 10.1.2.3 [200 200]
	// 2001:db8::7 [200 200]
	// 203.0.113.9 [403 403]
	// 198.51.100.1 [200 429]
	// unknown [200 429]
}

func ExampleHealth() {
	l := local(limiter.Per(100, time.Minute))
	mux := http.NewServeMux()
	mux.Handle("GET /healthz/limiter", httplimit.Health(l))

	resp := answer(mux, request("GET", "/healthz/limiter?max=30s"))
	state, _, _ := strings.Cut(resp.Body.String(), `,"since"`)
	fmt.Println(resp.Code, state)
	// Output: 200 {"state":"local"
}

// A page, or JSON, for those who have the operators' password.
func ExampleDebug() {
	l := local(limiter.Per(2, time.Hour))
	requireOperator := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, password, _ := r.BasicAuth()
			if subtle.ConstantTimeCompare([]byte(password), []byte("secret")) == 0 {
				w.Header().Set("WWW-Authenticate", "Basic")
				http.Error(w, "for operators", http.StatusUnauthorized)
				return
			}
			next.ServeHTTP(w, r)
		})
	}
	mux := http.NewServeMux()
	mux.Handle("/debug/limiter", requireOperator(httplimit.Debug(l)))
	for range 10 {
		l.Allow("203.0.113.7")
	}

	r := request("GET", "/debug/limiter?format=json")
	fmt.Println(answer(mux, r).Code)
	r.SetBasicAuth("", "secret")
	var report struct {
		TopDenied []struct {
			Key    string
			Denied int
		} `json:"top_denied"`
	}
	if err := json.Unmarshal(answer(mux, r).Body.Bytes(), &report); err != nil {
		fmt.Println(err)
	}
	fmt.Println(report.TopDenied)
	// Output:
	// 401
	// [{203.0.113.7 8}]
}
