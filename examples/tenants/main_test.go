package main

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
)

// TestTheTightestLimitDenies: each limit denies once it is used up, and a denial takes
// nothing from the others.
func TestTheTightestLimitDenies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimits()
		h := newHandler(l)
		for i, tc := range []struct{ user, tenant, want, after string }{
			{"ada", "acme", "hello ada\n", ""},
			{"ada", "acme", "hello ada\n", ""},
			{"ada", "acme", "hello ada\n", ""},
			{"ada", "acme", "too many requests: the limit of the user is 3/10s\n", "4"},
			{"ada", "acme", "too many requests: the limit of the user is 3/10s\n", "4"},
			{"bob", "acme", "hello bob\n", ""}, // what ada was denied did not cost the tenant anything
			{"bob", "acme", "hello bob\n", ""},
			{"bob", "acme", "too many requests: the limit of the tenant is 5/10s\n", "2"},
			{"eve", "other", "hello eve\n", ""},
		} {
			r := httptest.NewRequest(http.MethodGet, "/", http.NoBody)
			r.Header.Set("X-User", tc.user)
			r.Header.Set("X-Tenant", tc.tenant)
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if got := w.Body.String(); got != tc.want || w.Header().Get("Retry-After") != tc.after {
				t.Errorf("request %d: %q, again after %q; want %q, %q", i, got, w.Header().Get("Retry-After"), tc.want, tc.after)
			}
		}
		if got := l.service.Peek("").Remaining; got != 94 {
			t.Errorf("the service has %d left, want 94", got)
		}
	})
}
