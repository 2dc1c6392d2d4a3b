// Package rediscpu measures the CPU time of a Redis server.
package rediscpu

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// Used returns the CPU time of the server since its start, in user and in system mode.
func Used(ctx context.Context, client redis.UniversalClient) (time.Duration, error) {
	info, err := client.Info(ctx, "cpu").Result()
	if err != nil {
		return 0, fmt.Errorf("rediscpu: %w", err)
	}
	return parse(info)
}

func parse(info string) (time.Duration, error) {
	var sum time.Duration
	for _, field := range []string{"used_cpu_sys:", "used_cpu_user:"} {
		_, rest, found := strings.Cut(info, field)
		if !found {
			return 0, fmt.Errorf("rediscpu: no %s in %q", field, info)
		}
		text, _, _ := strings.Cut(rest, "\r\n")
		seconds, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return 0, fmt.Errorf("rediscpu: %w", err)
		}
		sum += time.Duration(seconds * float64(time.Second))
	}
	return sum, nil
}
