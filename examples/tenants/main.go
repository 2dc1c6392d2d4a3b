// Tenants is a server that applies three limits to each request: of the user, of the
// user's tenant, and of the whole service.
//
//	go run ./examples/tenants
//	for i in 1 2 3 4; do curl -s -H 'X-User: ada' -H 'X-Tenant: acme' localhost:8080; done
//
// Look at newHandler: a request that one limit denies takes nothing from the others, so
// that a user can't use up the tenant's limit, or a tenant the service's. The response's
// headers have all three limits.
package main

import (
	"fmt"
	"log"
	"net/http"
	"time"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/httplimit"
)

func main() {
	log.Print("http://localhost:8080")
	log.Fatal(http.ListenAndServe("localhost:8080", newHandler(newLimits())))
}

// limits are a limiter for each kind of limit. With Config.Redis they may share a client,
// under different prefixes.
type limits struct{ users, tenants, service *limiter.Limiter }

func newLimits() limits {
	return limits{
		users:   open("user", limiter.Per(3, 10*time.Second)),
		tenants: open("tenant", limiter.Per(5, 10*time.Second)),
		service: open("service", limiter.Per(100, 10*time.Second)),
	}
}

func open(prefix string, lim limiter.Limit) *limiter.Limiter {
	l, err := limiter.New(limiter.Config{Limit: lim, Prefix: prefix}) // with Redis: client, Processes: size of the fleet
	if err != nil {
		log.Fatal(err)
	}
	return l
}

// newHandler returns the handler of the service. A session that was checked has the user
// and the tenant; here they are headers.
func newHandler(l limits) http.Handler {
	limit := httplimit.New(nil, httplimit.Options{
		Parts: func(r *http.Request) []limiter.Part {
			user, tenant := r.Header.Get("X-User"), r.Header.Get("X-Tenant")
			return []limiter.Part{
				l.users.Part(user, 1).Named("user"),
				l.tenants.Part(tenant, 1).Named("tenant"),
				l.service.Part("", 1).Named("service"),
			}
		},
		Denied: http.HandlerFunc(denied),
	})
	return limit(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, "hello", r.Header.Get("X-User"))
	}))
}

// denied answers with the limits that deny. Without it the response is a problem document
// that names them.
func denied(w http.ResponseWriter, r *http.Request) {
	w.WriteHeader(http.StatusTooManyRequests)
	for _, p := range httplimit.PartsFromContext(r.Context()) {
		if res := p.Result(); !res.Allowed {
			fmt.Fprintf(w, "too many requests: the limit of the %s is %v\n", p.Name(), res.Limit)
		}
	}
}
