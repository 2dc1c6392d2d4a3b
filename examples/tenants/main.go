// Tenants is a server that applies three limits to each request: of the user, of the
// user's tenant, and of the whole service.
//
//	go run ./examples/tenants
//	for i in 1 2 3 4; do curl -s -H 'X-User: ada' -H 'X-Tenant: acme' localhost:8080; done
//
// Look at ServeHTTP: a request that one limit denies takes nothing from the others, so
// that a user can't use up the tenant's limit, or a tenant the service's.
package main

import (
	"fmt"
	"log"
	"math"
	"net/http"
	"strconv"
	"time"

	"golang.org/x/time/rate"

	"github.com/seed-e56e777b/limiter"
)

func main() {
	s := newService()
	log.Print("http://localhost:8080")
	log.Fatal(http.ListenAndServe("localhost:8080", s))
}

// service is a limiter for each kind of limit. With Config.Redis they may share a
// client, under different prefixes.
type service struct{ users, tenants, all *limiter.Limiter }

func newService() *service {
	return &service{
		users:   open("user", limiter.Per(3, 10*time.Second)),
		tenants: open("tenant", limiter.Per(5, 10*time.Second)),
		all:     open("all", limiter.Per(100, 10*time.Second)),
	}
}

func open(prefix string, lim limiter.Limit) *limiter.Limiter {
	l, err := limiter.New(limiter.Config{Limit: lim, Prefix: prefix}) // with Redis: client, Processes: size of the fleet
	if err != nil {
		log.Fatal(err)
	}
	return l
}

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	user, tenant := r.Header.Get("X-User"), r.Header.Get("X-Tenant")
	res, i := limiter.TakeAll(s.users.Part(user, 1), s.tenants.Part(tenant, 1), s.all.Part("", 1))
	if res.Allowed {
		fmt.Fprintln(w, "hello", user)
		return
	}
	if res.RetryAfter != rate.InfDuration { // unless the cost exceeds the burst
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(res.RetryAfter.Seconds()))))
	}
	w.WriteHeader(http.StatusTooManyRequests)
	fmt.Fprintf(w, "too many requests: the limit of %s is %v\n", []string{"user " + user, "tenant " + tenant, "the service"}[i], res.Limit)
}
