package promlimit

import (
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/seed-e56e777b/limiter"
)

// snapshot is the Stats and the Status of a limiter at one time.
type snapshot struct {
	limiter.Stats
	limiter.Status
}

// fact is one series: its name, its labels, and the source of its value.
type fact struct {
	name   string
	kind   prometheus.ValueType
	help   string
	labels prometheus.Labels
	value  func(snapshot) float64
}

const (
	counter = prometheus.CounterValue
	gauge   = prometheus.GaugeValue

	decisionsHelp = "Decisions made, by result."
	roundsHelp    = "Rounds of exchange with Redis, by result: failure if any call of the round failed."
)

// facts is all metrics of a limiter, a row for each series. Rows of one name differ in
// their labels only. Package otellimit has the same rows.
var facts = slices.Concat([]fact{
	{"limiter_decisions_total", counter, decisionsHelp, result("allowed"), func(s snapshot) float64 { return float64(s.Allowed) }},
	{"limiter_decisions_total", counter, decisionsHelp, result("denied"), func(s snapshot) float64 { return float64(s.Denied) }},
	{"limiter_shadowed_total", counter, "Decisions that admitted only because the limit is in shadow mode (Config.Shadow); they count as allowed too.", nil, func(s snapshot) float64 { return float64(s.Shadowed) }},
	{"limiter_bad_limits_total", counter, "Invalid limits that Config.LimitFor returned; the default limit was applied.", nil, func(s snapshot) float64 { return float64(s.BadLimits) }},
	{"limiter_keys", gauge, "Keys in the memory of this process.", nil, func(s snapshot) float64 { return float64(s.Keys) }},
	{"limiter_waiting", gauge, "Callers that wait in Wait or WaitAll now.", nil, func(s snapshot) float64 { return float64(s.Waiting) }},
	{"limiter_evicted_keys_total", counter, "Keys evicted to make room for others.", nil, func(s snapshot) float64 { return float64(s.Evicted) }},
	{"limiter_dropped_tokens_total", counter, "Tokens taken that will never be reported to Redis.", nil, func(s snapshot) float64 { return float64(s.DroppedTokens) }},
	{"limiter_over_admitted_tokens_total", counter, "Tokens admitted beyond what one central bucket would have had, by the later replies of Redis.", nil, func(s snapshot) float64 { return float64(s.OverAdmitted) }},
	{"limiter_rounds_total", counter, roundsHelp, result("success"), func(s snapshot) float64 { return float64(s.Rounds) }},
	{"limiter_rounds_total", counter, roundsHelp, result("failure"), func(s snapshot) float64 { return float64(s.RoundErrors) }},
	{"limiter_exchanged_keys_total", counter, "Replies from Redis for single keys.", nil, func(s snapshot) float64 { return float64(s.KeysExchanged) }},
	{"limiter_news_total", counter, "News received of keys that ran low or were reset, in this process or another.", nil, func(s snapshot) float64 { return float64(s.NewsHeard) }},
	{"limiter_losses_total", counter, "Losses of state in Redis, by partition and lane.", nil, func(s snapshot) float64 { return float64(s.Losses) }},
	{"limiter_duplicate_reports_total", counter, "Reports that Redis had already applied when they came again.", nil, func(s snapshot) float64 { return float64(s.DuplicateRounds) }},
	{"limiter_pending_keys", gauge, "Keys with attempts or usage not yet reported to Redis and acknowledged.", nil, func(s snapshot) float64 { return float64(s.Pending) }},
	{"limiter_processes", gauge, "Size of the fleet in use, this process included.", nil, func(s snapshot) float64 { return float64(s.Processes) }},
	{"limiter_silent_processes", gauge, "Processes of the fleet that have not been seen recently and have not left.", nil, func(s snapshot) float64 { return float64(s.Silent) }},
	{"limiter_state_since_timestamp_seconds", gauge, "Unix time at which the state of limiter_state began.", nil, func(s snapshot) float64 { return unix(s.Since) }},
	{"limiter_last_sync_timestamp_seconds", gauge, "Unix time of the last reply from Redis; 0 before the first.", nil, func(s snapshot) float64 { return unix(s.LastSync) }},
}, states())

func result(r string) prometheus.Labels { return prometheus.Labels{"result": r} }

// states returns a row for each state: its value is 1 for the present state.
func states() (rows []fact) {
	for state := limiter.Local; state <= limiter.Degraded; state++ {
		rows = append(rows, fact{
			"limiter_state", gauge, "State of the limiter towards Redis: 1 for the present one, 0 for the others.",
			prometheus.Labels{"state": state.String()},
			func(s snapshot) float64 {
				if s.State == state {
					return 1
				}
				return 0
			},
		})
	}
	return rows
}

// unix returns a time in seconds of Unix time, or 0 for the zero time.
func unix(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMicro()) / 1e6
}
