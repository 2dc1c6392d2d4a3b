package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"github.com/redis/go-redis/v9"

	"github.com/seed-e56e777b/limiter/internal/demand"
	"github.com/seed-e56e777b/limiter/internal/redisstore"
)

// topPatience is the time that Redis may take for all answers of -top, which reads every
// key.
const topPatience = 2 * time.Minute

// lookAtTop asks Redis for the list of -top and returns it.
func (o *inspectOptions) lookAtTop(ctx context.Context, client redis.UniversalClient) (string, error) {
	t, err := redisstore.New(client, o.prefix).Top(ctx, o.top, demand.TauIntervals*o.interval)
	switch {
	case err != nil:
		return "", o.explain(err)
	case !o.cluster && ofCluster(ctx, client):
		return "", errCluster
	case t.Keys == 0 && len(t.Fleet) == 0:
		return "", o.errNothing()
	case o.json:
		return o.topJSON(t)
	}
	return o.describeTop(t), nil
}

// describeTop writes the list as a text.
func (o *inspectOptions) describeTop(t redisstore.TopInspection) string {
	var b strings.Builder
	fmt.Fprintf(&b, "keys under the prefix %q: %d, processes: %d\n", o.prefix, t.Keys, len(t.Fleet))
	if len(t.Top) == 0 {
		return b.String()
	}
	b.WriteString("\n")
	w := tabwriter.NewWriter(&b, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "denied/s\trequested/s\t× limit\tlevel\tlimit\tlast report\tkey")
	for _, k := range t.Top {
		fmt.Fprintf(w, "%.3g\t%.3g\t%.2f\t%.1f\t%v\t%v ago\t%s\n",
			k.Denied(), k.Demand, k.Demand/k.Rate(), k.Level(), limitOf(k.Limit), short(k.Written), fieldText(k.Field))
	}
	w.Flush() // into memory
	return b.String()
}

// fieldText returns the key of a field as text that can be printed.
func fieldText(field string) string {
	if field[0] == 'd' {
		return "digest " + hex.EncodeToString([]byte(field[1:]))
	}
	return fmt.Sprintf("%q", field[1:])
}

// topKey is a key in the JSON of -top. One of Key, KeyBase64 and Digest is set.
type topKey struct {
	Key       *string `json:"key,omitempty"`
	KeyBase64 []byte  `json:"key_base64,omitempty"` // of a key that is not UTF-8
	Digest    string  `json:"digest,omitempty"`
	Denied    float64 `json:"denied_per_second"`
	Requested float64 `json:"requested_per_second"`
	Times     float64 `json:"times_limit"`
	Level     float64 `json:"level"`
	Limit     string  `json:"limit"`
	Reported  float64 `json:"last_report_seconds"`
}

// topJSON writes the list as JSON.
func (o *inspectOptions) topJSON(t redisstore.TopInspection) (string, error) {
	list := struct {
		Prefix    string   `json:"prefix"`
		Keys      int      `json:"keys"`
		Processes int      `json:"processes"`
		Top       []topKey `json:"top"`
	}{o.prefix, t.Keys, len(t.Fleet), []topKey{}}
	for _, k := range t.Top {
		key := topKey{
			Denied: k.Denied(), Requested: k.Demand, Times: k.Demand / k.Rate(), Level: k.Level(),
			Limit: limitOf(k.Limit).String(), Reported: k.Written.Seconds(),
		}
		switch text := k.Field[1:]; {
		case k.Field[0] == 'd':
			key.Digest = hex.EncodeToString([]byte(text))
		case utf8.ValidString(text):
			key.Key = &text
		default:
			key.KeyBase64 = []byte(text)
		}
		list.Top = append(list.Top, key)
	}
	b, err := json.MarshalIndent(list, "", "  ")
	return string(b) + "\n", err
}
