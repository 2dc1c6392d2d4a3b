// Package faultmatrix makes faults happen to a real Redis, and to its network, and
// checks the results. Meanwhile fleets of operating-system processes request three
// times their limit.
//
// Every fault happens to two fleets at the same time, each under a separate prefix: one
// with clients of [limiter.Tune] and one with go-redis's defaults. A process has two
// limiters. The watched one gets three times its limit. The exact one counts every
// token, because its bucket is never full: the tokens in Redis are compared with those
// that the processes admitted.
//
// A [Situation] is a sequence of events in a fleet of services: it deploys, waits, or
// loses Redis one process at a time. It is checked by the tokens admitted in each
// second.
//
// The program that runs a matrix runs itself again as the processes of the
// fleets, and therefore calls [Serve] first.
package faultmatrix

import (
	"context"
	"errors"
	"time"
)

// ErrNotHere is the error of a fault that needs a program missing on this machine.
var ErrNotHere = errors.New("faultmatrix: not on this machine")

// Fault is a fault of Redis or of its network.
type Fault struct {
	Name   string
	House  func() (*House, error) // starts its Redis
	Start  bool                   // true if it begins before the fleets start
	Lasts  time.Duration          // time from Inject to Heal; 0: Inject alone
	Inject func(context.Context, *House) error
	Heal   func(context.Context, *House) error // nil: nothing is left to heal
	Want   Want
}

// Want is the requirements of a fault, beside those of every fault.
type Want struct {
	Outage bool          // true if no process gets a reply: the fleet must still stay at the limit
	Loses  int           // number of times that Redis loses data, with usage that no process has seen there
	Back   time.Duration // time until Synced again, with a tuned client
	FromIt bool          // true if Back counts from the fault's begin, not from its end
	Says   string        // text that the log must contain
}

// Kind is a kind of clients of a fleet.
type Kind string

// The kinds of clients.
const (
	Tuned   Kind = "tuned"
	Default Kind = "default"
)
