package httplimit

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"math"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/time/rate"

	"github.com/seed-e56e777b/limiter"
)

const (
	defaultTop = 20
	mostTop    = 1000
)

// Debug returns a handler that shows the state of l to its operators: as a page, or as
// JSON with ?format=json or an Accept header that has application/json and not text/html.
// It answers GET and HEAD, and changes nothing.
//
//	mux.Handle("/debug/limiter", requireOperator(httplimit.Debug(l)))
//
// Mount it behind authentication: it shows keys, such as the addresses of clients and
// their API keys, and an error that may name hosts. Not all keys are text: the page shows
// such bytes as Go's %q does, and in JSON key_base64 has a key that is not UTF-8.
//
//   - ?top=50 is the number of keys of [limiter.Limiter.TopDenied], from 0 to 1000. The
//     default is 20.
//   - ?key=user:42 adds that key, as [limiter.Limiter.Peek] sees it, which takes nothing.
//
// A request costs as much as Stats and TopDenied together: about 40 ns for each key in
// memory. The status is 400 if a parameter is not understood. Debug panics if l is nil.
func Debug(l *limiter.Limiter) http.Handler {
	if l == nil {
		panic("httplimit: Debug: the limiter is nil")
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("Vary", "Accept")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer") // the address has keys in it
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			h.Set("Allow", "GET, HEAD")
			http.Error(w, "httplimit: want GET or HEAD", http.StatusMethodNotAllowed)
			return
		}
		q, err := parseDebugQuery(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		report := q.report(l)
		if q.json {
			h.Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(report) // fails if the client is gone
			return
		}
		h.Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write(report.page(q.top))
	})
}

// debugQuery is the parameters of a request for Debug.
type debugQuery struct {
	json bool
	top  int
	key  *string // nil: none
}

func parseDebugQuery(r *http.Request) (debugQuery, error) {
	q := debugQuery{top: defaultTop, json: prefersJSON(r.Header.Values("Accept"))}
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return q, fmt.Errorf("httplimit: query: %w", err)
	}
	if values.Has("format") {
		f := values.Get("format")
		if f != "json" && f != "html" {
			return q, fmt.Errorf("httplimit: format=%q: want json or html", f)
		}
		q.json = f == "json"
	}
	if values.Has("top") {
		q.top, err = strconv.Atoi(values.Get("top"))
		if err == nil && (q.top < 0 || q.top > mostTop) {
			err = errors.New("out of range")
		}
		if err != nil {
			return q, fmt.Errorf("httplimit: top=%q: %w; want a number from 0 to %d", values.Get("top"), unwrapNumber(err), mostTop)
		}
	}
	if values.Has("key") {
		key := values.Get("key")
		q.key = &key
	}
	return q, nil
}

// unwrapNumber returns the error of a number without the number, which the caller names.
func unwrapNumber(err error) error {
	if e, ok := errors.AsType[*strconv.NumError](err); ok {
		return e.Err
	}
	return err
}

// prefersJSON reports whether an Accept header has JSON and no HTML.
func prefersJSON(accept []string) (is bool) {
	for a := range strings.SplitSeq(strings.Join(accept, ","), ",") {
		switch t, _, _ := mime.ParseMediaType(a); t {
		case "text/html":
			return false
		case "application/json":
			is = true
		}
	}
	return is
}

// debugReport is the JSON of Debug, from which its page is made.
type debugReport struct {
	Time      time.Time      `json:"time"`
	Status    limiter.Status `json:"status"`
	Stats     debugStats     `json:"stats"`
	TopDenied []debugDenied  `json:"top_denied"`
	Key       *debugKey      `json:"key,omitempty"`
}

type debugStats struct {
	Allowed         uint64 `json:"allowed"`
	Denied          uint64 `json:"denied"`
	Shadowed        uint64 `json:"shadowed"`
	BadLimits       uint64 `json:"bad_limits"`
	Keys            int    `json:"keys"`
	Waiting         int    `json:"waiting"`
	Evicted         uint64 `json:"evicted"`
	DroppedTokens   uint64 `json:"dropped_tokens"`
	Rounds          uint64 `json:"rounds"`
	RoundErrors     uint64 `json:"round_errors"`
	KeysExchanged   uint64 `json:"keys_exchanged"`
	Losses          uint64 `json:"losses"`
	DuplicateRounds uint64 `json:"duplicate_rounds"`
	NewsHeard       uint64 `json:"news_heard"`
	OverAdmitted    uint64 `json:"over_admitted"`
}

// keyText is a key in JSON: a string cannot hold bytes that are not UTF-8.
type keyText struct {
	Text  string `json:"key"`
	Bytes []byte `json:"key_base64,omitempty"`
}

type debugDenied struct {
	keyText

	Digest bool      `json:"digest,omitempty"`
	Denied uint64    `json:"denied"`
	Missed uint64    `json:"missed,omitempty"`
	Since  time.Time `json:"since"`

	key string
}

type debugKey struct {
	keyText

	Allowed    bool     `json:"allowed"`
	Shadow     bool     `json:"shadow,omitempty"`
	Limit      string   `json:"limit"`
	Remaining  *int     `json:"remaining"`           // nil: no limit
	RetryAfter *float64 `json:"retry_after_seconds"` // nil: never
	ResetAfter float64  `json:"reset_after_seconds"`
	Age        *float64 `json:"age_seconds"` // nil: no exchange yet

	key    string
	result limiter.Result
}

// report returns the answer to a query.
func (q debugQuery) report(l *limiter.Limiter) *debugReport {
	d := &debugReport{
		Time:      time.Now(), //nolint:forbidigo // no decision comes of it
		Status:    l.Status(),
		Stats:     debugStats(l.Stats()),
		TopDenied: []debugDenied{},
	}
	for _, k := range l.TopDenied(q.top) {
		d.TopDenied = append(d.TopDenied, debugDenied{
			keyText: textOfKey(k.Key), Digest: k.Digest, Denied: k.Denied, Missed: k.Missed, Since: k.Since, key: k.Key,
		})
	}
	if q.key != nil {
		d.Key = debugKeyOf(*q.key, l.Peek(*q.key))
	}
	return d
}

func textOfKey(key string) keyText {
	if !utf8.ValidString(key) {
		return keyText{Text: strings.ToValidUTF8(key, "\ufffd"), Bytes: []byte(key)}
	}
	return keyText{Text: key}
}

func debugKeyOf(key string, r limiter.Result) *debugKey {
	k := &debugKey{
		keyText: textOfKey(key), Allowed: r.Allowed, Shadow: r.Shadow, Limit: r.Limit.String(),
		ResetAfter: r.ResetAfter.Seconds(), key: key, result: r,
	}
	if r.Remaining != math.MaxInt {
		k.Remaining = &r.Remaining
	}
	if r.RetryAfter != rate.InfDuration {
		k.RetryAfter = secondsOf(r.RetryAfter)
	}
	if r.Age >= 0 {
		k.Age = secondsOf(r.Age)
	}
	return k
}

func secondsOf(d time.Duration) *float64 {
	s := d.Seconds()
	return &s
}

// debugHead is the begin of the page. It needs nothing from elsewhere.
//
//go:embed debug.html
var debugHead string

// debugPage is a page in the making.
type debugPage struct{ strings.Builder }

// add adds HTML. Each %s of it is text, which is escaped.
func (p *debugPage) add(format string, text ...string) {
	args := make([]any, len(text))
	for i, t := range text {
		args[i] = html.EscapeString(t)
	}
	fmt.Fprintf(p, format, args...)
}

// row adds a line of a table.
func (p *debugPage) row(name, value string) { p.add("<tr><th>%s</th><td>%s</td></tr>\n", name, value) }

// page returns the report as HTML.
func (d *debugReport) page(top int) []byte {
	var p debugPage
	p.WriteString(debugHead)
	d.addStatus(&p)
	d.addTop(&p, top)
	d.addKey(&p, top)
	d.addStats(&p)
	p.add("<p class=\"note\">This process alone, at %s. Reload the page for new numbers.</p>\n</main>\n</html>\n", clock(d.Time))
	return []byte(p.String())
}

func (d *debugReport) addStatus(p *debugPage) {
	st := d.Status
	p.add("<h1>Limiter <span class=\"state %s\">%s</span></h1>\n", st.State.String(), st.State.String())
	p.add("<p>Since %s", d.ago(st.Since))
	if !st.LastSync.IsZero() {
		p.add(", last reply of Redis %s", d.ago(st.LastSync))
	}
	p.add(". Processes: %s, silent: %s. Keys to report: %s.</p>\n", grouped(st.Processes), grouped(st.Silent), grouped(st.Pending))
	if st.Err != nil {
		p.add("<p class=\"error\">%s</p>\n", shown(st.Err.Error()))
	}
}

func (d *debugReport) addTop(p *debugPage, top int) {
	p.add("<h2>Denied most, recently</h2>\n")
	if len(d.TopDenied) == 0 {
		p.add("<p>No key was denied within the last minutes.</p>\n")
		return
	}
	p.add("<div class=\"wide\"><table class=\"top\">\n<tr><th>key</th><th>denied</th><th>per second</th><th>since</th></tr>\n")
	for _, k := range d.TopDenied {
		p.add("<tr><td class=\"key\">")
		if k.Digest {
			p.add("<span title=\"the digest of a key\">digest %s</span>", k.key)
		} else {
			p.add("<a href=\"?top=%s&amp;key=%s\">%s</a>", strconv.Itoa(top), url.QueryEscape(k.key), shown(k.key))
		}
		denied, span := grouped(k.Denied), d.Time.Sub(k.Since).Seconds()
		if k.Missed > 0 {
			denied += " to " + grouped(k.Denied+k.Missed)
		}
		p.add("</td><td>%s</td><td>%s</td><td>%s</td></tr>\n", denied, strconv.FormatFloat(float64(k.Denied)/max(1, span), 'f', 1, 64), d.ago(k.Since))
	}
	p.add("</table></div>\n")
}

func (d *debugReport) addKey(p *debugPage, top int) {
	value := ""
	if d.Key != nil && shown(d.Key.key) == d.Key.key { // a field of a form does not keep other bytes
		value = d.Key.key
	}
	p.add("<h2>One key</h2>\n<form><input type=\"hidden\" name=\"top\" value=\"%s\">"+
		"<input name=\"key\" value=\"%s\" aria-label=\"key\" placeholder=\"key\" autocapitalize=\"off\" spellcheck=\"false\"> <button>Look up</button></form>\n",
		strconv.Itoa(top), value)
	if d.Key == nil {
		return
	}
	r := d.Key.result
	p.add("<table>\n")
	p.row("key", shown(d.Key.key))
	p.row("next request", verdict(r))
	p.row("limit", d.Key.Limit)
	if d.Key.Remaining != nil {
		p.row("remaining", grouped(r.Remaining)+" tokens, in this process")
		p.row("full in", short(r.ResetAfter))
	}
	if d.Key.Age == nil {
		p.row("last exchange", "none yet")
	} else if r.Age > 0 {
		p.row("last exchange", short(r.Age)+" ago")
	}
	p.add("</table>\n")
}

// verdict returns in words whether a request would be admitted.
func verdict(r limiter.Result) string {
	switch {
	case r.Shadow:
		return "over the limit, admitted in shadow mode"
	case r.Allowed:
		return "admitted"
	case r.RetryAfter == rate.InfDuration:
		return "denied, at any time"
	}
	return "denied, again in " + short(r.RetryAfter)
}

func (d *debugReport) addStats(p *debugPage) {
	s := d.Stats
	p.add("<h2>Counts since the start</h2>\n<table>\n")
	for _, c := range []struct {
		name string
		n    uint64
	}{
		{"allowed", s.Allowed},
		{"of these over the limit, in shadow mode", s.Shadowed},
		{"denied", s.Denied},
		{"keys in memory", uint64(s.Keys)},
		{"keys evicted", s.Evicted},
		{"callers waiting", uint64(s.Waiting)},
		{"invalid limits", s.BadLimits},
		{"tokens over the fleet's limit", s.OverAdmitted},
		{"tokens never reported", s.DroppedTokens},
		{"rounds of exchange", s.Rounds},
		{"rounds that failed", s.RoundErrors},
		{"rounds reported twice", s.DuplicateRounds},
		{"keys exchanged", s.KeysExchanged},
		{"news of keys that run low", s.NewsHeard},
		{"losses of state in Redis", s.Losses},
	} {
		p.row(c.name, grouped(c.n))
	}
	p.add("</table>\n")
}

// ago returns an instant as its time of day and its distance.
func (d *debugReport) ago(at time.Time) string {
	return clock(at) + " (" + short(d.Time.Sub(at)) + " ago)"
}

func clock(at time.Time) string { return at.UTC().Format("15:04:05 UTC") }

// short returns a duration of at most three digits or so.
func short(d time.Duration) string {
	unit := time.Millisecond
	for d/1000 >= unit && unit < time.Second {
		unit *= 10
	}
	return d.Round(unit).String()
}

// grouped returns a number with a comma after each thousand.
func grouped[N int | uint64](n N) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// shown returns a text as it is if it can be printed, otherwise as Go's %q does. So
// no two texts look the same.
func shown(s string) string {
	if q := strconv.Quote(s); s == "" || s != strings.TrimSpace(s) || q != `"`+s+`"` {
		return q
	}
	return s
}
