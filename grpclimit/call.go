package grpclimit

import (
	"context"
	"math"

	"github.com/seed-e56e777b/limiter"
)

// call is one call under way to the server, unary or a stream.
type call struct {
	limiter *limiter.Limiter
	opts    Options
	ctx     context.Context
	method  string
	key     string
}

func newCall(ctx context.Context, l *limiter.Limiter, opts Options, method string) *call {
	return &call{limiter: l, opts: opts, ctx: ctx, method: method, key: opts.Key(ctx, method)}
}

// take takes the cost of msg. It returns the tokens taken, or the error with which
// the call ends.
func (c *call) take(msg any) (taken int, err error) {
	cost := c.opts.Cost(c.ctx, c.method, msg)
	r := c.limiter.TakeN(c.key, cost)
	if r.Shadow || r.Remaining == math.MaxInt {
		return 0, nil // shadow mode, or no limit: nothing was taken
	}
	if r.Allowed {
		return cost, nil
	}
	if c.opts.Denied != nil {
		if err := c.opts.Denied(c.ctx, c.method, r); err != nil {
			return 0, err
		}
	}
	return 0, DeniedError(r)
}

// run takes the cost of msg, runs the handler, and gives the tokens back as the
// options require. A handler that panics has failed.
func (c *call) run(msg any, handle func() error) error {
	taken, err := c.take(msg)
	if err != nil {
		return err
	}
	givesBack := c.opts.SkipFailed
	defer func() {
		if givesBack {
			c.limiter.Refund(c.key, taken)
		}
	}()
	err = handle()
	givesBack = c.opts.givesBack(err)
	return err
}
