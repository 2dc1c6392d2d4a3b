package httplimit

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/internal/servertest"
	"github.com/seed-e56e777b/limiter/internal/servertest/redisserver"
)

// ask sends a query to a health handler.
func ask(h http.Handler, query string) (*httptest.ResponseRecorder, map[string]any) {
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodGet, "/", http.NoBody)
	r.URL.RawQuery = query
	h.ServeHTTP(w, r)
	var body map[string]any
	_ = json.Unmarshal(w.Body.Bytes(), &body) // an error is plain text
	return w, body
}

func TestHealthOfALocalLimiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := Health(newLimiter(t, limiter.Per(1, time.Second)))
		time.Sleep(time.Hour)
		for _, query := range []string{"", "max=0s", "max=30s"} {
			w, body := ask(h, query)
			require.Equal(t, http.StatusOK, w.Code)
			require.Equal(t, "application/json", w.Header().Get("Content-Type"))
			require.Equal(t, "no-store", w.Header().Get("Cache-Control"))
			require.Equal(t, map[string]any{
				"state": "local", "since": time.Now().Add(-time.Hour).Format(time.RFC3339Nano), "processes": 1.0, "pending": 0.0,
			}, body)
		}
	})
}

func TestHealthRefusesABadMax(t *testing.T) {
	h := Health(newLimiter(t, limiter.Per(1, time.Second)))
	for query, want := range map[string]string{
		"max=":         `httplimit: max="": time: invalid duration ""; want a duration such as 30s`,
		"max=30":       `httplimit: max="30": time: missing unit in duration "30"; want a duration such as 30s`,
		"max=-1s":      `httplimit: max="-1s": negative; want a duration such as 30s`,
		"max=%0d%0aX":  `httplimit: max="\r\nX": time: invalid duration "\x0d\x0aX"; want a duration such as 30s`,
		"max=1s;x":     `httplimit: query: invalid semicolon separator in query`,
		"max=30s&x=%z": `httplimit: query: invalid URL escape "%z"`,
	} {
		w, _ := ask(h, query)
		require.Equal(t, http.StatusBadRequest, w.Code, query)
		require.Equal(t, want+"\n", w.Body.String())
		require.Equal(t, "no-store", w.Header().Get("Cache-Control"))
	}
}

func TestOutageIsTheTimeWithoutRedis(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		since := time.Now()
		time.Sleep(time.Minute)
		for state, want := range map[limiter.State]time.Duration{
			limiter.Local: 0, limiter.Synced: 0, limiter.Connecting: time.Minute, limiter.Degraded: time.Minute,
		} {
			if got := outage(limiter.Status{State: state, Since: since}); got != want {
				t.Errorf("%v for a minute: outage of %v, want %v", state, got, want)
			}
		}
	})
}

// TestHealthFollowsRedis: synced, then without Redis.
func TestHealthFollowsRedis(t *testing.T) {
	server := servertest.Server(t, redisserver.Options{})
	client := redis.NewUniversalClient(limiter.Tune(&redis.UniversalOptions{Addrs: []string{server.Addr()}}))
	defer client.Close()
	changes := make(chan limiter.State, 9)
	l, err := limiter.New(limiter.Config{
		Limit: limiter.Per(1, time.Second), Redis: client, Processes: 1, SyncInterval: 10 * time.Millisecond,
		OnChange: func(st limiter.Status) { changes <- st.State },
	})
	require.NoError(t, err)
	defer l.Close()
	h := Health(l)
	until := func(want limiter.State) {
		for state := range changes {
			if state == want {
				return
			}
		}
	}
	until(limiter.Synced)
	w, body := ask(h, "max=0s")
	require.Equal(t, http.StatusOK, w.Code)
	require.Equal(t, "synced", body["state"])
	require.Contains(t, body, "last_sync")
	require.NotContains(t, body, "error")

	require.NoError(t, server.Kill())
	until(limiter.Degraded)
	for query, want := range map[string]int{"": 200, "max=1h": 200, "max=0s": 503} {
		w, body := ask(h, query)
		require.Equal(t, want, w.Code, query)
		require.Equal(t, "degraded", body["state"])
		require.NotEmpty(t, body["error"])
		require.Contains(t, body, "last_sync")
	}
}
