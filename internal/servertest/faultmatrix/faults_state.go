package faultmatrix

import (
	"context"
	"errors"
	"strings"
)

// stateFaults returns the faults of the server's data.
func stateFaults() []*Fault {
	loses := Want{Loses: 1}
	evicts := Want{Loses: evictions}
	return []*Fault{
		{Name: "SCRIPT FLUSH", House: plain, Inject: admin(cmd("script", "flush"))},
		{Name: "FLUSHALL", House: plain, Inject: admin(cmd("flushall")), Want: loses},
		{Name: "our keys evicted (allkeys-lru), again and again", House: plain, Lasts: lasting, Inject: evictAgain, Heal: waitForIt, Want: evicts},
		{
			Name: "our keys overwritten with strings", House: plain, Lasts: lasting,
			Inject: overwrite, Heal: deleteAll, Want: Want{Outage: true, Loses: 1, Says: "delete it"},
		},
		{Name: "our keys' fields overwritten with rubbish", House: plain, Inject: spoil, Want: loses},
	}
}

const evictions = 8

// evictAgain makes the server evict everything again and again.
func evictAgain(ctx context.Context, h *House) error {
	h.patient = make(chan error, 1)
	if err := h.Admin.ConfigSet(ctx, "maxmemory-policy", "allkeys-lru").Err(); err != nil {
		return err
	}
	go func() {
		var errs []error
		for range evictions {
			errs = append(errs, evict(ctx, h))
			pause(ctx, lasting/evictions)
		}
		h.patient <- errors.Join(errs...)
	}()
	return nil
}

func evict(ctx context.Context, h *House) error {
	if err := h.Admin.ConfigSet(ctx, "maxmemory", "1mb").Err(); err != nil {
		return err
	}
	for range 100 {
		_ = h.Admin.Set(ctx, "filler", "", 0).Err() // evicts, and is refused
		if h.Admin.DBSize(ctx).Val() == 0 {
			return h.Admin.ConfigSet(ctx, "maxmemory", "0").Err()
		}
	}
	return errors.New("nothing was evicted")
}

func isOurs(key string) bool {
	return strings.HasPrefix(key, string(Tuned)) || strings.HasPrefix(key, string(Default))
}

// each calls a function for every key of the limiters.
func each(ctx context.Context, h *House, f func(key string) error) error {
	keys, err := h.Admin.Keys(ctx, "*").Result()
	errs := []error{err}
	for _, key := range keys {
		if isOurs(key) {
			errs = append(errs, f(key))
		}
	}
	return errors.Join(errs...)
}

func overwrite(ctx context.Context, h *House) error {
	return each(ctx, h, func(key string) error { return h.Admin.Set(ctx, key, "a string", 0).Err() })
}

func deleteAll(ctx context.Context, h *House) error {
	return each(ctx, h, func(key string) error { return h.Admin.Del(ctx, key).Err() })
}

// spoil writes random bytes of the right and of wrong lengths into every field.
func spoil(ctx context.Context, h *House) error {
	return each(ctx, h, func(key string) error {
		fields, err := h.Admin.HKeys(ctx, key).Result()
		errs := []error{err}
		for i, field := range fields {
			rubbish := strings.Repeat("\xff", []int{24, 3, 16, 72}[i%4])
			errs = append(errs, h.Admin.HSet(ctx, key, field, rubbish).Err())
		}
		return errors.Join(errs...)
	})
}
