package faultmatrix

import (
	"context"
	"errors"
	"slices"
	"time"
)

// The times until Synced again with a tuned client, without the time of Redis itself.
const (
	backStandalone = time.Second
	backSentinel   = time.Second      // from the new primary's announcement
	backCluster    = 10 * time.Second // from the failure
)

const lasting = 4 * time.Second

// Faults returns all faults. In a long run some of them last longer.
func Faults(long bool) []*Fault {
	list := slices.Concat(processFaults(), networkFaults(), accessFaults(), stateFaults(), sentinelFaults(), clusterFaults(), endpointFaults())
	if long {
		list = append(list, frozen(30*time.Second))
	}
	for _, f := range list {
		if f.Want.Back == 0 {
			f.Want.Back = backStandalone
		}
	}
	return list
}

// do returns a step of a fault that needs no context.
func do(step func(h *House) error) func(context.Context, *House) error {
	return func(_ context.Context, h *House) error { return step(h) }
}

// admin returns a step of a fault that sends commands to the server.
func admin(commands ...[]any) func(context.Context, *House) error {
	return func(ctx context.Context, h *House) error {
		conn := h.Admin.Conn() // one that outlives a password
		defer conn.Close()
		var errs []error
		for _, c := range commands {
			errs = append(errs, conn.Do(ctx, c...).Err())
		}
		return errors.Join(errs...)
	}
}

// cmd is one command.
func cmd(words ...any) []any { return words }

var (
	killClients = cmd("client", "kill", "type", "normal", "skipme", "yes")
	outage      = Want{Outage: true}
)
