package redisstore

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
)

// scanCount is about the number of fields that one HSCAN returns, which takes Redis less
// than a millisecond.
const scanCount = 500

// Rank is a key in the ranking of a fleet's keys.
type Rank struct {
	Field string // of the key
	KeyInspection
}

// Rate returns the rate of the last report's limit, in tokens per second.
func (k *KeyInspection) Rate() float64 {
	return float64(k.Limit.Burst) / (float64(k.Limit.Full) / 1e6)
}

// Level returns the tokens in the bucket, at most the burst; negative: a debt.
func (k *KeyInspection) Level() float64 {
	burst := float64(k.Limit.Burst)
	return min(burst, burst-k.ToGo.Seconds()*k.Rate())
}

// Denied returns about how many tokens per second the fleet denies: the demand above the
// limit, or 0 if the last report left one token and a tenth of the burst.
func (k *KeyInspection) Denied() float64 {
	reported := float64(k.Limit.Burst) - (k.ToGo+k.Written).Seconds()*k.Rate()
	if reported >= max(1, float64(k.Limit.Burst)/10) {
		return 0
	}
	return max(0, k.Demand-k.Rate())
}

// TopInspection is the ranking of a fleet's keys.
type TopInspection struct {
	Keys  int                // number of all keys that are not full, or were not a minute ago
	Top   []Rank             // the first of them
	Fleet []MemberInspection // processes that have not left, the last seen first
}

// Top reads the n keys of the fleet that are denied most and, after those, have the most
// demand for their limit. It changes nothing. It reads every key, in calls between which
// Redis serves others. tau is the fleet's time constant of demand.
func (c *Client) Top(ctx context.Context, n int, tau time.Duration) (TopInspection, error) {
	var (
		t TopInspection
		s Inspection
	)
	for _, hash := range c.names {
		of, err := c.topOf(ctx, hash, n, tau)
		if err != nil {
			return TopInspection{}, explain(err)
		}
		t.Top = firstRanks(append(t.Top, of.ranks...), n)
		t.Keys += len(of.seen)
	}
	if err := c.inspectFleet(ctx, &s); err != nil {
		return TopInspection{}, explain(err)
	}
	t.Fleet = s.Fleet
	return t, nil
}

// hashRanks is the ranking of the keys of one hash.
type hashRanks struct {
	ranks []Rank
	seen  map[string]struct{} // a scan may give a field twice
}

func (c *Client) topOf(ctx context.Context, hash string, n int, tau time.Duration) (hashRanks, error) {
	of := hashRanks{seen: map[string]struct{}{}}
	node, err := c.node(ctx, hash)
	if err != nil {
		return of, err
	}
	for cursor := uint64(0); ; {
		values, now, next, err := scan(ctx, node, hash, cursor)
		if err != nil {
			return of, err
		}
		for i := 0; i+1 < len(values); i += 2 {
			of.add(values[i], values[i+1], now, tau)
		}
		of.ranks = firstRanks(of.ranks, n)
		if cursor = next; cursor == 0 {
			return of, nil
		}
	}
}

// scan returns fields of a hash, each followed by its value, and the present time of the
// hash's clock.
func scan(ctx context.Context, node redis.Cmdable, hash string, cursor uint64) (values []string, now int64, next uint64, err error) {
	_, now, err = glance(ctx, node, hash, clockInPartition)
	if err != nil {
		return nil, 0, 0, err
	}
	values, next, err = node.HScan(ctx, hash, cursor, "", scanCount).Result()
	return values, now, next, err
}

// add adds a field, unless it is no key, or its state has no limit.
func (of *hashRanks) add(field, value string, now int64, tau time.Duration) {
	if field == "" || field[0] != 'k' && field[0] != 'd' {
		return
	}
	k, ok := readKey(value, now, tau)
	if _, again := of.seen[field]; again || !ok || k.Limit.Full == 0 {
		return
	}
	of.seen[field] = struct{}{}
	of.ranks = append(of.ranks, Rank{field, k})
}

// firstRanks sorts the ranks, and returns the first n of them.
func firstRanks(ranks []Rank, n int) []Rank {
	slices.SortFunc(ranks, func(a, b Rank) int {
		return cmp.Or(
			cmp.Compare(b.Denied(), a.Denied()),
			cmp.Compare(b.Demand/b.Rate(), a.Demand/a.Rate()),
			cmp.Compare(a.Field, b.Field),
		)
	})
	return ranks[:min(len(ranks), n)]
}
