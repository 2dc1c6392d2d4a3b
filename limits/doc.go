// Package limits keeps the limits of a [limiter.Limiter] in a file or in a hash
// in Redis, and follows their changes while the program runs.
//
//	ls, err := limits.Open(ctx, limits.File("limits.json"), limits.Options{})
//	…
//	l, err := limiter.New(limiter.Config{Limit: ls.Default(), LimitFor: ls.LimitFor, Shadow: ls.Shadow})
//	…
//	ls.Watch(l)
//	defer ls.Close()
//
// A file is one JSON object, a hash has the same in its fields:
//
//	{
//	  "*":       "100/1m",
//	  "user:*":  "10/s burst 50",
//	  "user:42": "1000/1m shadow",
//	  "admin:*": "unlimited"
//	}
//
// On the left stands a key, or the beginning of keys with a * at its end; of
// those that fit, the whole key comes first, then the longest beginning. The
// bare * is for all other keys, and has to be there. On the right stands a
// limit as [limiter.ParseLimit] reads it; the word shadow after it puts it on
// trial (see [limiter.Config.Shadow]).
//
// Whatever is wrong with a new version, be it one limit, the syntax, or a file
// or a Redis that can't be read, the last good limits stay, all of them, and the
// fault is logged, once until it changes.
package limits
