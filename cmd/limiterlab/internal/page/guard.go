package page

import (
	"fmt"
	"net"
	"net/http"
	"strings"
)

// policy lets the page load its own files only, and forbids frames around it.
const policy = "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"

// guard keeps other sites out: their pages can't send commands, even under a name
// of theirs that points to this address (DNS rebinding).
func guard(host string, next http.Handler) http.Handler {
	own := http.NewCrossOriginProtection().Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		if name := hostname(r.Host); !known(name, host) {
			http.Error(w, fmt.Sprintf("limiterlab: %q is none of my names: use the address that it printed, or start it with -http %s:PORT", name, name), http.StatusForbidden)
			return
		}
		own.ServeHTTP(w, r)
	})
}

// hostname returns a Host without its port.
func hostname(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		return name
	}
	return strings.Trim(host, "[]")
}

// known reports whether a name can only mean this machine. A name of another owner
// can be made to point here, an address can't.
func known(name, host string) bool {
	return net.ParseIP(name) != nil || strings.EqualFold(name, "localhost") || strings.EqualFold(name, host)
}
