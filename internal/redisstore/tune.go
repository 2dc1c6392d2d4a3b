package redisstore

import (
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Tune sets the zero fields of o to values for exchanges, and returns o: short
// timeouts, no repetition, and few connections. The next round makes up for a failed
// one. With the defaults of go-redis, one call on a dead server may take 3 s, on a
// hung one 40 s. The dialer guards the connections.
func Tune(o *redis.UniversalOptions) *redis.UniversalOptions {
	fill(&o.PoolSize, 100)        // few are ever opened; after as many failed dials in a row go-redis dials once a second only
	fill(&o.PipelinePoolSize, -1) // pipelines use the main pool
	fill(&o.MaxRetries, -1)
	fill(&o.MinRetryBackoff, 8*time.Millisecond)
	fill(&o.MaxRetryBackoff, 50*time.Millisecond)
	fill(&o.MaxRedirects, 3) // of a Cluster; MaxRetries does not apply
	fill(&o.DialerRetries, 1)
	fill(&o.DialTimeout, 500*time.Millisecond)
	fill(&o.ReadTimeout, 300*time.Millisecond)
	fill(&o.WriteTimeout, 300*time.Millisecond)
	fill(&o.PoolTimeout, 300*time.Millisecond)
	o.ContextTimeoutEnabled = true
	o.DisableIdentity = true // saves a command on every new connection, and its right in the ACL
	if o.Dialer == nil {
		o.Dialer = dialer(func() *redis.Options { return &redis.Options{DialTimeout: o.DialTimeout, TLSConfig: o.TLSConfig} })
	}
	if o.MaintNotificationsConfig == nil {
		o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	}
	return o
}

// TuneOptions is Tune for the options of a client of one server.
func TuneOptions(o *redis.Options) *redis.Options {
	u := &redis.UniversalOptions{}
	copyFields(u, o)
	Tune(u)
	if o.Dialer == nil {
		u.Dialer = dialer(func() *redis.Options { return o })
	}
	copyFields(o, u)
	return o
}

func fill[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
