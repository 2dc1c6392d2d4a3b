// Package faultmatrix does to a real Redis, and to the way to it, whatever can
// happen to one, while fleets of operating-system processes ask their limiters
// for three times the limit, and judges what came of it.
//
// Every fault meets two fleets at the same time, one with clients of
// [limiter.Tune] and one with go-redis's defaults, each under a prefix of its
// own. A process has two limiters: one at three times its limit, which is
// watched, and one whose bucket is so large that it is never full, by which
// every token can be counted: what Redis has in the end is compared with what
// the processes admitted.
//
// A [Situation] is a course of events instead, in a fleet as services run it: it
// deploys, waits, or loses Redis a process at a time. It is judged by the tokens
// that were admitted in each second.
//
// The program that runs a matrix runs itself again as the processes of the
// fleets, and therefore calls [Serve] first.
package faultmatrix

import (
	"context"
	"errors"
	"time"
)

// ErrNotHere says that a fault needs something that this machine has not.
var ErrNotHere = errors.New("faultmatrix: not on this machine")

// Fault is one thing that may happen.
type Fault struct {
	Name   string
	House  func() (*House, error) // starts the Redis that it happens to
	Start  bool                   // it is there before the fleets are
	Lasts  time.Duration          // from Inject to Heal; 0: no longer than Inject takes
	Inject func(context.Context, *House) error
	Heal   func(context.Context, *House) error // nil: nothing is left to heal
	Want   Want
}

// Want is what a fault allows beyond what every fault does.
type Want struct {
	Outage bool          // nobody is answered: the fleet must stay at the limit all the same
	Loses  int           // how many times Redis loses data: what it lost before anybody saw it is gone
	Back   time.Duration // until Synced again, with a tuned client
	FromIt bool          // Back counts from the fault's begin, not from its end
	Says   string        // what the log must name
}

// Kind is how the clients of a fleet are made.
type Kind string

// The kinds of clients.
const (
	Tuned   Kind = "tuned"
	Default Kind = "default"
)
