package httplimit

import (
	"encoding/json"
	"net/http"

	"github.com/seed-e56e777b/limiter"
)

// denial is the problem documents of requests that one limit denies: of those that may be
// repeated, and of those that never fit.
type denial struct{ later, never []byte }

const (
	detailLater = "Too many requests: retry after the time that Retry-After gives."
	detailNever = "The request costs more than its limit can ever admit: retrying will not help."
)

// problem is a document of RFC 9457, of the draft's type quota-exceeded.
type problem struct {
	Type     string   `json:"type"`
	Title    string   `json:"title"`
	Status   int      `json:"status"`
	Detail   string   `json:"detail"`
	Violated []string `json:"violated-policies"`
}

func newDenial(policy string) denial {
	return denial{later: document(detailLater, policy), never: document(detailNever, policy)}
}

// of returns the document of a denied request.
func (d denial) of(res limiter.Result) []byte {
	if never(res) {
		return d.never
	}
	return d.later
}

// documentOf returns the document of a request that the named limits deny.
func documentOf(res limiter.Result, policies []string) []byte {
	if never(res) {
		return document(detailNever, policies...)
	}
	return document(detailLater, policies...)
}

func document(detail string, policies ...string) []byte {
	b, _ := json.MarshalIndent(problem{ // of strings and a number: can't fail
		Type:     "https://iana.org/assignments/http-problem-types#quota-exceeded",
		Title:    "Quota Exceeded",
		Status:   http.StatusTooManyRequests,
		Detail:   detail,
		Violated: policies,
	}, "", "  ")
	return append(b, '\n')
}

// deny writes the default response to a denied request.
func deny(w http.ResponseWriter, document []byte) {
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("Cache-Control", "no-store") // RFC 6585: a 429 must not be stored
	w.WriteHeader(http.StatusTooManyRequests)
	w.Write(document)
}
