package faultmatrix

import (
	"context"
	"io"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/seed-e56e777b/limiter"
)

// Service is the work of a process in a situation.
type Service struct {
	Limit   limiter.Limit
	Workers int // workers that call Wait; 0: Allow is called at random instants
	Among   int // processes that share the fleet's demand; 0: no demand for this one yet
}

const (
	// countEvery is the time between two counts of a process. A process that is
	// killed takes the last one with it.
	countEvery = 50 * time.Millisecond
	// workTime is the time that a worker spends between two calls of Wait.
	workTime = 10 * time.Millisecond
	// mostLate is the longest stall that is made up for. After a longer one, that
	// would be a surge of demand, which no load balancer sends.
	mostLate = 50 * time.Millisecond
)

// chargeCommand begins a line of input that charges tokens.
const chargeCommand = "charge "

// serve works until its input ends, and reports the tokens admitted. A line of
// its input is a new value of Among, or a command.
func (j *Job) serve(in io.Reader, t *reporter) error {
	client := j.client()
	defer client.Close()
	l, err := limiter.New(limiter.Config{
		Limit: j.Service.Limit, Redis: client, Prefix: j.Kind.prefix(), Processes: processes,
		Logger:   slog.New(slog.NewTextHandler(&logLines{t: t}, nil)),
		OnChange: t.change,
	})
	if err != nil {
		return err
	}
	defer l.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var admitted, among atomic.Int64
	among.Store(int64(j.Service.Among))
	if j.Service.Workers == 0 {
		go j.Service.call(ctx, l, &admitted, &among)
	}
	for range j.Service.Workers {
		go work(ctx, l, &admitted)
	}
	go func() {
		for range time.Tick(countEvery) {
			if n := admitted.Swap(0); n > 0 {
				t.report(Event{Admitted: int(n)})
			}
		}
	}()
	for line := range lines(in) {
		number, isCharge := strings.CutPrefix(line, chargeCommand)
		n, err := strconv.ParseInt(number, 10, 64)
		switch {
		case err != nil:
			return err
		case isCharge:
			l.Charge(sharedKey, int(n))
		default:
			among.Store(n)
		}
	}
	return nil
}

// call calls Allow for this process's part of three times the limit.
func (s *Service) call(ctx context.Context, l *limiter.Limiter, admitted, among *atomic.Int64) {
	mean := float64(time.Second) / demand / float64(s.Limit.Rate)
	for next := time.Now(); ctx.Err() == nil; {
		n := among.Load()
		if n == 0 {
			pause(ctx, workTime)
			next = time.Now()
			continue
		}
		next = next.Add(time.Duration(rand.ExpFloat64() * mean * float64(n)))
		if late := -time.Until(next); late > mostLate {
			next = next.Add(late)
		}
		pause(ctx, time.Until(next))
		if l.Allow(sharedKey) {
			admitted.Add(1)
		}
	}
}

// work waits and works in turn.
func work(ctx context.Context, l *limiter.Limiter, admitted *atomic.Int64) {
	for ctx.Err() == nil {
		if l.Wait(ctx, sharedKey) == nil {
			admitted.Add(1)
		}
		pause(ctx, workTime)
	}
}
