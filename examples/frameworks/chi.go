package main

import (
	"fmt"
	"net/http"

	"github.com/go-chi/chi/v5"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/httplimit"
)

// withChi limits two routes by tenant, a parameter of their path, which chi has in
// middleware set by With. A failed request costs nothing. For limits of the user and the
// service beside that of the tenant, set Parts in place of Key (examples/tenants).
func withChi(l *limiter.Limiter) http.Handler {
	r := chi.NewRouter()
	r.Handle("/healthz/limiter", httplimit.Health(l))
	limited := r.With(httplimit.New(l, httplimit.Options{
		Key:        func(r *http.Request) string { return chi.URLParam(r, "tenant") },
		SkipFailed: true,
	}))
	limited.Get("/{tenant}/hello", func(w http.ResponseWriter, r *http.Request) {
		res, _ := httplimit.FromContext(r.Context())
		fmt.Fprintf(w, "hello %s, %d left\n", chi.URLParam(r, "tenant"), res.Remaining)
	})
	limited.Get("/{tenant}/fail", func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "failed", http.StatusInternalServerError)
	})
	return r
}
