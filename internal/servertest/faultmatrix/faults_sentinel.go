package faultmatrix

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/seed-e56e777b/limiter/internal/servertest/redisserver"
)

// sentinelFaults returns the faults after which Sentinels promote the replica. Redis is
// in order again when they announce it.
func sentinelFaults() []*Fault {
	want := Want{Outage: true, Loses: 1, Back: backSentinel}
	return []*Fault{
		{
			Name: "Sentinel: primary killed", House: watched, Heal: announced, Want: want,
			Inject: do(func(h *House) error { return h.server.Kill() }),
		},
		{
			Name: "Sentinel: primary SIGSTOPped", House: watched, Heal: announced, Want: want,
			Inject: do(func(h *House) error { return h.server.Freeze() }),
		},
		{
			Name: "Sentinel: SENTINEL FAILOVER", House: watched, Heal: announced, Want: Want{Loses: 1, Back: backSentinel},
			Inject: func(ctx context.Context, h *House) error {
				s := h.sentinel.Sentinels[0].Client()
				defer s.Close()
				return s.Do(ctx, "sentinel", "failover", redisserver.MasterName).Err()
			},
		},
		{
			Name: "Sentinel: primary killed, replica 2 s behind", House: watched, Heal: announced, Want: want,
			Inject: func(ctx context.Context, h *House) error {
				if err := lagBehind(ctx, h.sentinel.Replica); err != nil {
					return err
				}
				pause(ctx, 2*time.Second)
				h.Struck = time.Now()
				return h.server.Kill()
			},
		},
	}
}

// lagBehind stops a replica's replication, by a wrong password.
func lagBehind(ctx context.Context, replica *redisserver.Server) error {
	r := replica.Client()
	defer r.Close()
	return errors.Join(
		r.ConfigSet(ctx, "masterauth", "nonsense").Err(),
		r.Do(ctx, "client", "kill", "type", "master").Err(),
	)
}

// announced waits until most Sentinels name the new primary.
func announced(ctx context.Context, h *House) error {
	old := strconv.Itoa(h.server.Port())
	for range 3000 {
		named := 0
		for _, s := range h.sentinel.Sentinels {
			if port := primaryPort(ctx, s); port != "" && port != old {
				named++
			}
		}
		if 2*named > len(h.sentinel.Sentinels) {
			h.Back = time.Now()
			return nil
		}
		pause(ctx, 20*time.Millisecond)
	}
	return errors.New("no new primary was announced")
}

func primaryPort(ctx context.Context, s *redisserver.Server) string {
	c := redis.NewSentinelClient(&redis.Options{Addr: s.Addr()})
	defer c.Close()
	addr, err := c.GetMasterAddrByName(ctx, redisserver.MasterName).Result()
	if err != nil || len(addr) != 2 {
		return ""
	}
	return addr[1]
}
