package benchmarks_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/didip/tollbooth/v8"
	"github.com/go-chi/httprate"
	"github.com/sethvargo/go-limiter/memorystore"
	"github.com/throttled/throttled/v2"
	"github.com/throttled/throttled/v2/store/memstore"
	ulule "github.com/ulule/limiter/v3"
	"github.com/ulule/limiter/v3/drivers/store/memory"

	"github.com/seed-e56e777b/limiter"
)

// window returns the time in which a limit refills its burst, for peers that count in
// windows.
func window(lim limiter.Limit) time.Duration {
	return time.Duration(float64(lim.Burst) / float64(lim.Rate) * float64(time.Second))
}

// openGoLimiter gives it windows of at least an hour: at a second's end it puts
// back (time of a window in ns)/tokens, one where a billion were taken.
func openGoLimiter(tb testing.TB, lim limiter.Limit, _ int) opened {
	config := memorystore.Config{Tokens: uint64(lim.Burst), Interval: max(time.Hour, window(lim))}
	store := must(memorystore.New(&config))(tb)
	ctx := context.Background()
	tb.Cleanup(func() { _ = store.Close(ctx) })
	return opened{decide: func(key string) (bool, error) {
		_, _, _, ok, err := store.Take(ctx, key)
		return ok, err
	}}
}

func openThrottledMap(tb testing.TB, lim limiter.Limit, _ int) opened {
	return openThrottled(tb, lim, 0)
}

func openThrottledLRU(tb testing.TB, lim limiter.Limit, capacity int) opened {
	return openThrottled(tb, lim, capacity)
}

func openThrottled(tb testing.TB, lim limiter.Limit, capacity int) opened {
	store := must(memstore.NewCtx(capacity))(tb)
	l := must(throttled.NewGCRARateLimiterCtx(store, quota(lim)))(tb)
	ctx := context.Background()
	return opened{decide: func(key string) (bool, error) {
		limited, _, err := l.RateLimitCtx(ctx, key, 1)
		return !limited, err
	}}
}

func quota(lim limiter.Limit) throttled.RateQuota {
	interval := time.Duration(float64(time.Second) / float64(lim.Rate))
	return throttled.RateQuota{MaxRate: throttled.PerDuration(1, interval), MaxBurst: lim.Burst - 1}
}

func openUlule(_ testing.TB, lim limiter.Limit, _ int) opened {
	l := ulule.New(memory.NewStore(), ululeRate(lim))
	ctx := context.Background()
	return opened{decide: func(key string) (bool, error) {
		c, err := l.Get(ctx, key)
		return !c.Reached, err
	}}
}

func ululeRate(lim limiter.Limit) ulule.Rate {
	return ulule.Rate{Period: window(lim), Limit: int64(lim.Burst)}
}

func openTollbooth(_ testing.TB, lim limiter.Limit, _ int) opened {
	l := tollbooth.NewLimiter(float64(lim.Rate), nil)
	l.SetBurst(lim.Burst)
	return opened{decide: func(key string) (bool, error) { return !l.LimitReached(key), nil }}
}

// nowhere is a response that nobody reads.
type nowhere struct{ header http.Header }

func (n nowhere) Header() http.Header       { return n.header }
func (nowhere) Write(p []byte) (int, error) { return len(p), nil }
func (nowhere) WriteHeader(int)             {}

// openHTTPRate asks as its middleware does, but without response headers: it
// has no other way to be asked.
func openHTTPRate(tb testing.TB, lim limiter.Limit, _ int) opened {
	l := httprate.NewRateLimiter(lim.Burst, window(lim), httprate.WithResponseHeaders(httprate.ResponseHeaders{}))
	w := nowhere{http.Header{}}
	r := must(http.NewRequest(http.MethodGet, "/", http.NoBody))(tb)
	return opened{decide: func(key string) (bool, error) { return !l.OnLimit(w, r, key), nil }}
}
