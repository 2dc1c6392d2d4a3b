package grpclimit

import (
	"context"
	"math"
	"strconv"
	"time"

	"golang.org/x/time/rate"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

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
	c := &call{limiter: l, opts: opts, ctx: ctx, method: method}
	if opts.Parts == nil {
		c.key = opts.Key(ctx, method)
	}
	return c
}

// take takes the cost of msg. It returns the decision, or the error with which the call
// ends.
func (c *call) take(msg any) (decision, error) {
	d := c.decide(msg)
	if d.result.Allowed {
		return d, nil
	}
	c.pushBack(d.result)
	if c.opts.Denied != nil {
		if err := c.opts.Denied(d.context(c.ctx), c.method, d.result); err != nil {
			return decision{}, err
		}
	}
	return decision{}, DeniedError(d.result)
}

func (c *call) decide(msg any) (d decision) {
	if c.opts.Parts != nil {
		d.parts, d.result, _ = limiter.EstimateAll(c.opts.Parts(c.ctx, c.method, msg)...)
		return d
	}
	cost := c.opts.Cost(c.ctx, c.method, msg)
	d.result = c.limiter.TakeN(c.key, cost)
	if !d.result.Shadow && d.result.Remaining != math.MaxInt { // otherwise nothing was taken
		d.taken = cost
	}
	return d
}

// refund gives back the tokens that an admitted call has taken.
func (c *call) refund(d decision) {
	for _, p := range d.parts {
		p.Settle(0)
	}
	if d.taken > 0 {
		c.limiter.Refund(c.key, d.taken)
	}
}

// pushBack tells the retry policy of the client when to try again, or that it should not.
func (c *call) pushBack(r limiter.Result) {
	millis := int64(-1) // never
	if r.RetryAfter != rate.InfDuration {
		up := (r.RetryAfter + time.Millisecond - 1) / time.Millisecond
		millis = min(int64(up), math.MaxInt32) // 24 days, within the range of any client
	}
	// It fails only if the status was sent, or without a transport, as in tests.
	_ = grpc.SetTrailer(c.ctx, metadata.Pairs(pushbackKey, strconv.FormatInt(millis, 10)))
}

// pushbackKey is the trailer of gRFC A6, "Client Retries".
const pushbackKey = "grpc-retry-pushback-ms"

// run takes the cost of msg, runs the handler, and gives the tokens back as the
// options require. A handler that panics has failed.
func (c *call) run(msg any, handle func(ctx context.Context) error) error {
	d, err := c.take(msg)
	if err != nil {
		return err
	}
	givesBack := c.opts.SkipFailed
	defer func() {
		if givesBack {
			c.refund(d)
		}
	}()
	err = handle(d.context(c.ctx))
	givesBack = c.opts.givesBack(err)
	return err
}
