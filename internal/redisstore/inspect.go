package redisstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/seed-e56e777b/limiter/internal/exchange"
)

// stateBytes is the length of a stored key's state: four numbers and a limit.
const stateBytes = 4*8 + exchange.LimitBytes

// errState is the error of a field that holds no state of a key.
var errState = errors.New("not the limiter's (another program's, or another version's)")

// Inspection is the state of one key, and of the fleet, in Redis.
type Inspection struct {
	Hash   string             // name of the partition's hash
	Exists bool               // true if the hash exists
	Key    *KeyInspection     // nil: the key was never reported, or has been full for so long that it was swept
	Fleet  []MemberInspection // processes that have not left, the last seen first
}

// KeyInspection is the state of a key.
type KeyInspection struct {
	ToGo    time.Duration  // TAT − now; not above 0: full
	Demand  float64        // tokens per second requested by the whole fleet
	Written time.Duration  // time since the last report
	Limit   exchange.Limit // limit of the last report, the unit of ToGo
}

// MemberInspection is a process that has not left.
type MemberInspection struct {
	Process [8]byte
	Seen    time.Duration // time since it was last seen
}

// Inspect reads the state of a field and of the fleet, and changes nothing. tau is
// the fleet's time constant of demand.
func (c *Client) Inspect(ctx context.Context, field string, tau time.Duration) (Inspection, error) {
	s := Inspection{Hash: c.names[exchange.Partition(field, len(c.names))]}
	err := c.inspectKey(ctx, &s, field, tau)
	if err == nil {
		err = c.inspectFleet(ctx, &s)
	}
	if err != nil {
		return Inspection{}, explain(err)
	}
	return s, nil
}

func (c *Client) inspectKey(ctx context.Context, s *Inspection, field string, tau time.Duration) error {
	node, err := c.node(ctx, s.Hash)
	if err != nil {
		return err
	}
	values, now, err := glance(ctx, node, s.Hash, clockInPartition, field)
	if err != nil {
		return err
	}
	s.Exists = values[0] != nil
	if values[1] == nil {
		return nil
	}
	value, _ := values[1].(string)
	k, ok := readKey(value, now, tau)
	if !ok {
		return fmt.Errorf("the field %q of %s is %w", field, s.Hash, errState)
	}
	s.Key = &k
	return nil
}

// readKey returns the state of a key from its stored form, if it is one.
func readKey(value string, now int64, tau time.Duration) (k KeyInspection, ok bool) {
	state, ok := exchange.ReadInts(value, 4)
	if !ok || len(value) != stateBytes {
		return KeyInspection{}, false
	}
	tat, demand, since := state[0], state[1], state[2]
	ago := max(0, now-since)
	return KeyInspection{
		ToGo:    time.Duration(min(max(tat-now, exchange.LongAgo), exchange.MaxSpan)) * time.Microsecond,
		Demand:  float64(demand) / 1000 / tau.Seconds() * math.Exp(-float64(ago)/float64(tau.Microseconds())),
		Written: time.Duration(min(ago, exchange.MaxSpan)) * time.Microsecond,
		Limit:   exchange.ReadLimit(value[4*8:]),
	}, true
}

// inspectFleet reads the fields of members, and ignores other fields.
func (c *Client) inspectFleet(ctx context.Context, s *Inspection) error {
	node, err := c.node(ctx, c.fleet)
	if err != nil {
		return err
	}
	_, now, err := glance(ctx, node, c.fleet, clockInFleet)
	if err != nil {
		return err
	}
	seen := map[[8]byte]time.Duration{} // a scan may give a field twice
	fields := node.HScan(ctx, c.fleet, 0, "\x00p*", 1000).Iterator()
	for fields.Next(ctx) {
		field := fields.Val()
		if !fields.Next(ctx) {
			break
		}
		at, ok := exchange.ReadInts(fields.Val(), 1)
		if len(field) == 2+8 && ok {
			seen[[8]byte([]byte(field[2:]))] = time.Duration(min(max(0, now-at[0]), exchange.MaxSpan)) * time.Microsecond
		}
	}
	for process, ago := range seen {
		s.Fleet = append(s.Fleet, MemberInspection{Process: process, Seen: ago})
	}
	slices.SortFunc(s.Fleet, func(a, b MemberInspection) int {
		return cmp.Or(cmp.Compare(a.Seen, b.Seen), slices.Compare(a.Process[:], b.Process[:]))
	})
	return fields.Err()
}

// node returns the server of a hash, because each server of a Cluster has its own
// clock.
func (c *Client) node(ctx context.Context, hash string) (redis.Cmdable, error) {
	if cluster, ok := c.rdb.(interface {
		MasterForKey(ctx context.Context, key string) (*redis.Client, error)
	}); ok {
		return cluster.MasterForKey(ctx, hash)
	}
	return c.rdb, nil
}

// The offsets of the clock in a hash's own state: behind the sweep cursor and the
// expiry of a partition, behind the expiry of the fleet.
const (
	clockInPartition = 16
	clockInFleet     = 8
)

// glance returns fields of a hash, and the present time of its clock.
func glance(ctx context.Context, node redis.Cmdable, hash string, clockAt int, fields ...string) (values []any, now int64, err error) {
	pipe := node.Pipeline()
	clock := pipe.Time(ctx)
	read := pipe.HMGet(ctx, hash, append([]string{"\x00m"}, fields...)...)
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, 0, err
	}
	values = read.Val()
	last, offset := clockOf(values[0], clockAt)
	return values, max(clock.Val().UnixMicro()+offset, last), nil
}

// clockOf returns the last written clock, and its offset, of a hash's own state.
func clockOf(meta any, at int) (last, offset int64) {
	if s, ok := meta.(string); ok && len(s) >= at {
		if clock, ok := exchange.ReadInts(s[at:], 2); ok && clock[0] >= 0 && clock[1] >= 0 {
			return clock[0], clock[1]
		}
	}
	return 0, 0
}
