package httplimit_test

import (
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
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

// A short limit around a long one; each has its member in the headers. What the
// outer one denies takes nothing from the inner one.
func Example_severalLimits() {
	perSecond, perDay := local(limiter.Per(10, time.Second)), local(limiter.Per(5000, 24*time.Hour))
	day := httplimit.New(perDay, httplimit.Options{PolicyName: "day"})
	second := httplimit.New(perSecond, httplimit.Options{PolicyName: "second"})
	handler := second(day(http.NotFoundHandler()))
	for _, member := range answer(handler, request("GET", "/")).Header().Values("RateLimit-Policy") {
		fmt.Println(member)
	}
	// Output:
	// "second";q=10;w=1
	// "day";q=5000;w=86400
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
