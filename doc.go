// Package limiter limits rates in Go services, shares the limits through Redis,
// and keeps limiting, correctly, when Redis does not answer.
//
// [Limiter.Allow] decides in the process, against an LRU of token buckets, in
// nanoseconds and without I/O. In the background each process reports its usage to
// Redis in batches and receives the fleet's state, so that the fleet behaves like
// one token bucket per key. An outage only pauses that exchange: each process goes
// on with its last share, and the fleet's total stays at the limit.
//
// # Usage
//
//	client := redis.NewUniversalClient(limiter.Tune(&redis.UniversalOptions{
//		Addrs: []string{"localhost:6379"},
//	}))
//	l, err := limiter.New(limiter.Config{
//		Limit:     limiter.Per(100, time.Minute), // each key's limit
//		Redis:     client,                        // nil: this process alone
//		Processes: 4,                             // expected size of the fleet
//	})
//	if err != nil {
//		log.Fatal(err)
//	}
//	defer client.Close()
//	defer l.Close()
//
//	if !l.Allow("user:42") {
//		// deny: answer 429, drop the message
//	}
//	if err := l.Wait(ctx, "api.example.com"); err != nil {
//		return err // ctx is done, or its deadline comes first
//	}
//
// [Limiter.Take] returns the details that headers need, [Limiter.Reserve] how long to wait.
// [Limiter.Estimate] is for a cost that is known only afterwards, [Limiter.Charge] and
// [Limiter.Refund] for one without a decision. [Limiter.Hold] pauses a key. [TakeAll],
// [WaitAll] and [EstimateAll] decide on several limits at once; [Config.LimitFor] gives
// keys limits of their own; [Config.Shadow] tries a limit out.
//
// [ClientFromURL] makes the client of a URL. [Limit] and [State] are text, in JSON, YAML
// and flags: "100/m", "20/s burst 5".
//
// Package httplimit is middleware for net/http. Package limits reads limits from a
// file or from Redis. The modules grpclimit, promlimit and otellimit serve gRPC,
// Prometheus and OpenTelemetry.
//
// # The bargain
//
// A decision never waits for Redis, so it may miss usage of other processes
// within the last exchange, about 100 ms. A sudden rise of demand can therefore
// over-admit once, by a bounded number of tokens, which the fleet then pays back.
// Where each request has to be counted before it is answered, use a limiter that
// asks Redis each time.
//
// A token bucket is full at the start: Per(100, time.Minute) admits up to 200
// requests in the first minute, and 100 in each minute after it. WithBurst(1)
// admits them one by one.
//
// # Terms
//
//   - Rate r and burst b: tokens per second, and tokens. A [Limit] is both.
//   - Cost: the tokens that one call requests. A cost above b is never admitted.
//   - Attempts and usage: tokens requested, and tokens admitted.
//   - Demand: attempts per second, as a decaying mean.
//   - Exchange, round: a batched report to Redis and its reply, every T
//     (Config.SyncInterval). Keys that run low are exchanged sooner, keys far from
//     their limits later.
//   - Grant: the result of a reply for a bucket: a level, a refill and a capacity, until a
//     certain instant.
//   - Share: the part of a contended key's rate that this process may admit, in
//     proportion to its demand.
//   - TAT (theoretical arrival time, from GCRA): the instant at which a bucket is
//     full again, which is how the fleet shares a bucket. Debt is a level below
//     zero.
//   - News: announcements of keys that run low, from process to process.
//   - Orphan: an evicted key whose usage is still to be reported.
//   - Stale, degraded: a bucket whose grant can't be renewed, and a process that has
//     such buckets.
//
// # Guarantees
//
//   - Decisions do no I/O and, for keys in memory, allocate nothing.
//   - Without Redis, decisions are exactly those of golang.org/x/time/rate.
//   - While Redis answers, the fleet admits as much as one bucket would, under
//     steady demand. A sudden rise to D tokens per second over-admits at most
//     min((N−1)·(b + r·H), D·H) in N processes, with H = T + round trip.
//   - While Redis does not answer, the fleet's total stays at the limit. Its return
//     gives neither a burst nor a pause.
//   - Every admitted token is charged once, whatever fails on the way.
//   - Waiting callers are served in order, per key and process; a cancelled wait
//     costs nothing.
//   - Memory is bounded by Config.MaxKeys, and a flood of fresh keys gives a limited
//     key no fresh burst.
//
// docs/guarantees.md has all of them, each with the tests that check it.
//
// # When Redis does not answer
//
// A key goes stale when its last exchange failed, or has hung for 3·T or three
// round trips. Its process then admits the share that its demand had in the last
// half minute. Of a key far from its limit it knows little of the others' demand, and
// takes them to be like itself. A process that was idle gets a quarter of an equal share
// within a minute. A process that has never reached Redis admits 1/Config.Processes of
// each limit, and up to one request more. Of a key that it has had for less than five
// seconds it admits an equal share. When Redis is back, usage is charged in full,
// though usage older than 7 seconds makes no debt. [Limiter.Status] and Config.OnChange
// say how the limiter stands; docs/operating.md has the symptoms and the measures.
//
// # Concurrency
//
// All methods may be called from any goroutine. A limiter without Redis has no
// goroutine. A limiter with Redis has one, up to two more for calls, and one each
// for the log and OnChange while these have something to do.
//
// docs/design.md has the rules and their formulas, docs/benchmarks.md the costs.
package limiter
