package otellimit

import (
	"slices"
	"time"

	"go.opentelemetry.io/otel/attribute"

	"github.com/seed-e56e777b/limiter"
)

// snapshot is the Stats and the Status of a limiter at one time.
type snapshot struct {
	limiter.Stats
	limiter.Status
}

// fact is one series: its name, its attributes, and the source of its value.
type fact struct {
	name       string
	kind       kind
	unit       string // UCUM; in braces for counts: "{key}"
	help       string
	attributes []attribute.KeyValue
	value      func(snapshot) int64
}

const (
	decisionsHelp = "Decisions made, by result."
	roundsHelp    = "Rounds of exchange with Redis, by result: failure if any call of the round failed."
)

// facts is all metrics of a limiter, a row for each series. Rows of one name differ in
// their attributes only. Package promlimit has the same rows.
var facts = slices.Concat([]fact{
	{"limiter.decisions", counter, "{decision}", decisionsHelp, result("allowed"), func(s snapshot) int64 { return int64(s.Allowed) }},
	{"limiter.decisions", counter, "{decision}", decisionsHelp, result("denied"), func(s snapshot) int64 { return int64(s.Denied) }},
	{"limiter.shadowed", counter, "{decision}", "Decisions that admitted only because the limit is in shadow mode (Config.Shadow); they count as allowed too.", nil, func(s snapshot) int64 { return int64(s.Shadowed) }},
	{"limiter.bad_limits", counter, "{limit}", "Invalid limits that Config.LimitFor returned; the default limit was applied.", nil, func(s snapshot) int64 { return int64(s.BadLimits) }},
	{"limiter.keys", level, "{key}", "Keys in the memory of this process.", nil, func(s snapshot) int64 { return int64(s.Keys) }},
	{"limiter.waiting", level, "{caller}", "Callers that wait in Wait or WaitAll now.", nil, func(s snapshot) int64 { return int64(s.Waiting) }},
	{"limiter.evicted_keys", counter, "{key}", "Keys evicted to make room for others.", nil, func(s snapshot) int64 { return int64(s.Evicted) }},
	{"limiter.dropped_tokens", counter, "{token}", "Tokens taken that will never be reported to Redis.", nil, func(s snapshot) int64 { return int64(s.DroppedTokens) }},
	{"limiter.over_admitted_tokens", counter, "{token}", "Tokens admitted beyond what one central bucket would have had, by the later replies of Redis.", nil, func(s snapshot) int64 { return int64(s.OverAdmitted) }},
	{"limiter.rounds", counter, "{round}", roundsHelp, result("success"), func(s snapshot) int64 { return int64(s.Rounds) }},
	{"limiter.rounds", counter, "{round}", roundsHelp, result("failure"), func(s snapshot) int64 { return int64(s.RoundErrors) }},
	{"limiter.exchanged_keys", counter, "{key}", "Replies from Redis for single keys.", nil, func(s snapshot) int64 { return int64(s.KeysExchanged) }},
	{"limiter.news", counter, "{key}", "News received of keys that ran low or were reset, in this process or another.", nil, func(s snapshot) int64 { return int64(s.NewsHeard) }},
	{"limiter.losses", counter, "{loss}", "Losses of state in Redis, by partition and lane.", nil, func(s snapshot) int64 { return int64(s.Losses) }},
	{"limiter.duplicate_reports", counter, "{report}", "Reports that Redis had already applied when they came again.", nil, func(s snapshot) int64 { return int64(s.DuplicateRounds) }},
	{"limiter.pending_keys", level, "{key}", "Keys with attempts or usage not yet reported to Redis and acknowledged.", nil, func(s snapshot) int64 { return int64(s.Pending) }},
	{"limiter.processes", gauge, "{process}", "Size of the fleet in use, this process included.", nil, func(s snapshot) int64 { return int64(s.Processes) }},
	{"limiter.silent_processes", gauge, "{process}", "Processes of the fleet that have not been seen recently and have not left.", nil, func(s snapshot) int64 { return int64(s.Silent) }},
	{"limiter.state_since_timestamp", gauge, "s", "Unix time at which the state of limiter.state began.", nil, func(s snapshot) int64 { return unix(s.Since) }},
	{"limiter.last_sync_timestamp", gauge, "s", "Unix time of the last reply from Redis; 0 before the first.", nil, func(s snapshot) int64 { return unix(s.LastSync) }},
}, states())

func result(r string) []attribute.KeyValue {
	return []attribute.KeyValue{attribute.String("result", r)}
}

// states returns a row for each state: its value is 1 for the present state.
func states() (rows []fact) {
	for state := limiter.Local; state <= limiter.Degraded; state++ {
		rows = append(rows, fact{
			"limiter.state", level, "", "State of the limiter towards Redis: 1 for the present one, 0 for the others.",
			[]attribute.KeyValue{attribute.String("state", state.String())},
			func(s snapshot) int64 {
				if s.State == state {
					return 1
				}
				return 0
			},
		})
	}
	return rows
}

// unix returns a time in whole seconds of Unix time, or 0 for the zero time.
func unix(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}
