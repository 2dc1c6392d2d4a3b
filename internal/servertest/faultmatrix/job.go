package faultmatrix

import (
	"context"
	"net"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/time/rate"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/internal/exchange"
)

const (
	processes = 3   // of a fleet
	demand    = 3.0 // as a multiple of the limit
	spares    = 16  // keys beside the shared one, for more samples of Allow
	perTick   = 8   // of them at a time
)

var (
	sharedLimit = limiter.Limit{Rate: 300, Burst: 30}
	// exactLimit has a token of 1000 seconds, more than the error of any clock in
	// this matrix, and a bucket that is never full.
	exactLimit = limiter.Limit{Rate: 0.001, Burst: 1e6}
)

// exactInterval is so long that no process counts as silent within a fault, which
// would change the charge of a token.
const exactInterval = 10 * time.Second

// Job is the configuration of a process of a fleet.
type Job struct {
	Kind       Kind
	Addrs      []string
	MasterName string
	Username   string
	Password   string
	Resolver   string // address of the name server to ask; none: the system's
	Service    *Service
}

func (j *Job) client() redis.UniversalClient {
	o := &redis.UniversalOptions{Addrs: j.Addrs, MasterName: j.MasterName, Username: j.Username, Password: j.Password}
	if j.Resolver != "" {
		o.Dialer = dialer(j.Resolver)
	}
	if j.Kind == Tuned {
		limiter.Tune(o)
	}
	return redis.NewUniversalClient(o)
}

// dialer returns go-redis's own dialer, except for the name server.
func dialer(resolver string) func(context.Context, string, string) (net.Conn, error) {
	ask := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", resolver)
	}}
	d := &net.Dialer{Timeout: 5 * time.Second, Resolver: ask}
	return d.DialContext
}

// prefix returns the prefix of a fleet's watched limiters in Redis.
func (k Kind) prefix() string { return string(k) }

// exactPrefix returns the prefix of a fleet's exact limiters.
func (k Kind) exactPrefix() string { return string(k) + "-exact" }

// sharedKey and exactKey are on the first master of a Cluster, the one with its faults.
var sharedKey, exactKey = keyOfFirst("shared"), keyOfFirst("exact")

func keyOfFirst(stem string) string {
	const partitionsOfCluster, ofFirst = 64, 20
	for i := 'a'; ; i++ {
		if key := stem + string(i); exchange.Partition("k"+key, partitionsOfCluster) < ofFirst {
			return key
		}
	}
}

// period returns the time between two requests for the shared key by one process.
func period() time.Duration {
	return time.Duration(float64(time.Second) * processes / demand / float64(sharedLimit.Rate))
}

func bareLimiter() *rate.Limiter { return rate.NewLimiter(sharedLimit.Rate, sharedLimit.Burst) }
