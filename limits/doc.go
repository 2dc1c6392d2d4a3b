// Package limits reads the limits of a [limiter.Limiter] from a file, or from a hash
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
//	  "*":       "100/m",
//	  "user:*":  "10/s burst 50",
//	  "user:42": "1000/m shadow",
//	  "admin:*": "unlimited"
//	}
//
// On the left is a pattern: a key, or a beginning of keys and a *. The rule of the
// whole key comes first, then that of the longest beginning. The pattern * is for all
// other keys, and is required. On the right is a limit for [limiter.ParseLimit]. The
// word shadow after it puts the limit in shadow mode (see [limiter.Config.Shadow]).
//
// If a new version has an error, in one limit or in the syntax, or can't be read, all
// the last good limits stay. The error is logged once, until it changes.
package limits
