package servertest

import (
	"context"
	"time"
)

// Lateness measures until ctx is done how late this machine runs a goroutine. The
// function that it returns waits for that, and returns the longest delay. A test in real
// time may see events later by as much.
func Lateness(ctx context.Context) (longest func() time.Duration) {
	const step = 5 * time.Millisecond
	late := make(chan time.Duration, 1)
	go func() {
		most := time.Duration(0)
		for ctx.Err() == nil {
			begin := time.Now()
			time.Sleep(step)
			most = max(most, time.Since(begin)-step)
		}
		late <- most
	}()
	return func() time.Duration { return <-late }
}
