package httplimit

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/seed-e56e777b/limiter"
)

// Health returns a handler that reports the state of l towards Redis, as the JSON of
// [limiter.Status]. Because its error may name hosts, the handler is for operators.
//
// The status is 200, because a limiter without Redis goes on limiting: its process
// should stay in service. With ?max=30s, for alerts, it is 503 if the limiter has been
// connecting or degraded for longer. It is 400 if max is no duration, or negative.
// Health panics if l is nil.
func Health(l *limiter.Limiter) http.Handler {
	if l == nil {
		panic("httplimit: Health: the limiter is nil")
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		most, bounded, err := maxOf(r.URL.RawQuery)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		st := l.Status()
		status := http.StatusOK
		if bounded && outage(st) > most {
			status = http.StatusServiceUnavailable
		}
		writeStatus(w, status, st)
	})
}

// maxOf returns the max of a query, if there is one.
func maxOf(query string) (most time.Duration, ok bool, err error) {
	values, err := url.ParseQuery(query)
	if err != nil {
		return 0, false, fmt.Errorf("httplimit: query: %w", err)
	}
	if !values.Has("max") {
		return 0, false, nil
	}
	most, err = time.ParseDuration(values.Get("max"))
	if err == nil && most < 0 {
		err = errors.New("negative")
	}
	if err != nil {
		return 0, false, fmt.Errorf("httplimit: max=%q: %w; want a duration such as 30s", values.Get("max"), err)
	}
	return most, true, nil
}

// outage returns the time for which the limiter has been without Redis.
func outage(st limiter.Status) time.Duration {
	if st.State == limiter.Local || st.State == limiter.Synced {
		return 0
	}
	return time.Since(st.Since) //nolint:forbidigo // no decision comes of it
}

func writeStatus(w http.ResponseWriter, status int, st limiter.Status) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(st) // fails if the client is gone
}
