package httplimit

import (
	"encoding/json"
	"net/http"

	"github.com/seed-e56e777b/limiter"
)

// denial is the default response to denied requests: a problem document for requests
// that may be repeated, and one for those that never fit.
type denial struct{ later, never []byte }

// problem is a document of RFC 9457, of the draft's type quota-exceeded.
type problem struct {
	Type     string   `json:"type"`
	Title    string   `json:"title"`
	Status   int      `json:"status"`
	Detail   string   `json:"detail"`
	Violated []string `json:"violated-policies"`
}

func newDenial(policy string) denial {
	return denial{
		later: document(policy, "Too many requests: retry after the time that Retry-After gives."),
		never: document(policy, "The request costs more than its limit can ever admit: retrying will not help."),
	}
}

func document(policy, detail string) []byte {
	b, _ := json.MarshalIndent(problem{ // of strings and a number: can't fail
		Type:     "https://iana.org/assignments/http-problem-types#quota-exceeded",
		Title:    "Quota Exceeded",
		Status:   http.StatusTooManyRequests,
		Detail:   detail,
		Violated: []string{policy},
	}, "", "  ")
	return append(b, '\n')
}

func (d denial) write(w http.ResponseWriter, res limiter.Result) {
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("Cache-Control", "no-store") // RFC 6585: a 429 must not be stored
	w.WriteHeader(http.StatusTooManyRequests)
	if never(res) {
		w.Write(d.never)
	} else {
		w.Write(d.later)
	}
}
