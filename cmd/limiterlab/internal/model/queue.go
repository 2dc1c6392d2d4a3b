package model

import (
	"time"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/trace"
	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/traffic"
)

// Pool is the workers of one process, which run from the start of a run until To.
type Pool struct {
	Process int
	Workers int
	To      time.Duration
}

// waiter is a worker in the queue of a central bucket.
type waiter struct {
	pool Pool
	at   time.Duration // of its arrival
}

// queue returns the grants of one central bucket that admits the workers of all
// pools in the order of their arrival. It is always within reach.
//
// A bucket that is full at the start grants the token of an arrival at
// max(arrival, TAT - (burst-1)/rate), and then moves TAT by 1/rate. Grants never
// go back in time, so that workers arrive again in the order of their grants.
func queue(l limiter.Limit, pools []Pool) []trace.Request {
	var line []waiter
	for _, p := range pools {
		for range p.Workers {
			line = append(line, waiter{pool: p})
		}
	}
	interval := 1e9 / float64(l.Rate)
	tat := 0.0
	var grants []trace.Request
	for len(line) > 0 {
		w := line[0]
		line = line[1:]
		at := max(float64(w.at), tat-float64(l.Burst-1)*interval)
		if at >= float64(w.pool.To) {
			continue
		}
		tat = max(tat, at) + interval
		grants = append(grants, trace.Request{
			At: time.Duration(at), Process: int32(w.pool.Process), Cost: 1, Admitted: true, Kind: trace.Grant,
		})
		line = append(line, waiter{w.pool, time.Duration(at) + traffic.Work})
	}
	return grants
}
