// Package limiter limits rates in Go services, with limits shared through
// Redis, and keeps limiting, correctly, when Redis does not answer.
//
// A decision is made in this process, on an LRU of token buckets, in
// nanoseconds and without I/O. A goroutine tells Redis in batches what was
// used and learns what the rest of the fleet uses, so that the fleet behaves
// like one central bucket per key. An outage of Redis only pauses that: each
// process goes on with its last known share, and the fleet's total stays at
// the limit. The price is a bounded overshoot where demand rises suddenly,
// which is repaid.
//
// # Usage
//
//	l, err := limiter.New(limiter.Config{
//		Limit: limiter.Per(100, time.Minute),
//		Redis: redis.NewUniversalClient(limiter.Tune(&redis.UniversalOptions{Addrs: addrs})),
//		Processes: 4, // of the fleet, as it is expected to be
//	})
//	if !l.Allow("user:42") { … }
//
// [Limiter.Allow] drops what exceeds the limit, [Limiter.Wait] paces it,
// [Limiter.Reserve] says how long to wait, [Limiter.Take] says what to tell
// the one who asked. [Limiter.Charge] and [Limiter.Refund] settle costs that
// are known only afterwards. [TakeAll] and [WaitAll] decide on several limits at
// once, [Config.Shadow] tries a limit out. Without Config.Redis the limiter is
// local, and an exact token bucket.
//
// Package httplimit is net/http middleware, package limits keeps limits in a
// file or in Redis; modules grpclimit, promlimit and otellimit adapt to gRPC,
// Prometheus and OpenTelemetry.
//
// # Terms
//
//   - rate r, burst b: tokens per second; tokens. A [Limit] is both.
//   - cost n: tokens that one call asks for; more than b can never be admitted.
//   - TAT, theoretical arrival time (GCRA): the instant at which the bucket is
//     full again. It is the whole shared state of a bucket; its level is
//     b − (TAT − now)·r, and a negative level is debt.
//   - usage: tokens admitted here since the last acknowledged exchange.
//   - demand: tokens asked for per second, admitted or not, as a decayed rate.
//   - share w: the part of a contended key's rate that this process may admit,
//     in proportion to its demand.
//   - exchange, round: one batched report and reply with Redis, every T
//     (Config.SyncInterval), sooner where a key runs low, later where it is far
//     from its limit.
//   - grant: what a reply gives a bucket: level, refill, capacity, threshold,
//     and until when they hold.
//   - stale: a bucket whose grant can't be renewed; degraded: a process that
//     has stale buckets.
//   - news: what the processes tell each other of keys that run low.
//
// # Guarantees
//
// Each is checked by the test in brackets.
//
//   - A decision does no I/O, waits for nobody, and allocates nothing for a
//     resident key, whatever the key or the cost, and whatever Redis does (but
//     keys that nobody asked for in minutes may need a new block of memory)
//     [TestDecisionsNeverWait, TestDecisionsAllocateNothing,
//     TestAnyKeyIsDecided, TestAnyCostIsDecided].
//   - Alone, decisions, delays, waits and cancelled reservations are those of
//     golang.org/x/time/rate [TestAloneEqualsXTimeRate,
//     TestWaitsReturnWhenXTimeRatesDo]. A cancelled wait is not: see next.
//   - Callers of Wait are served in order of arrival, per key and process, and
//     see every change of the limit at once. A cancelled one has cost nothing,
//     here and in the fleet. Pools of workers, however many, keep the limit:
//     steadily, in an outage, and in each second after it; and a pool's share is
//     in proportion to its waiting callers [TestWaitersAreServedInOrder,
//     TestWaitersSeeEveryChange, TestCancelledWaitersLeaveNothing,
//     TestWorkersThatWaitKeepTheLimit, TestWaitingIsDemand,
//     TestOthersStandBehindWaiters, TestWaitAllInAnyOrder,
//     TestWaitAllStarvesNobody].
//   - Copies of a Reservation give back once [TestCopiesOfAReservationGiveBackOnce].
//   - While Redis answers, N processes admit what one bucket would admit under
//     steady demand. A sudden rise to D tokens per second over-admits at most
//     min((N−1)·(b + r·H), D·H), H = T + round trip, a debt that is repaid
//     [TestFleetIsOneBucket, TestRiseIsBounded, TestAccuracy].
//   - A key that runs low elsewhere is known before its first request here, and
//     a reset is, too [TestNewsReachesFirstContacts]; a process that starts
//     knows it of 8,192 keys within two seconds, or after a Sync
//     [TestStartedProcessKnowsAllThatRunsLow]; what was admitted beyond one
//     bucket is counted [TestOverAdmissionIsCounted].
//   - A decision on several limits takes from all or from none; a denial
//     consumes nothing anywhere, and counts with the limits that denied alone
//     [TestAllPartsOrNone, TestPartsOfDenialsConsumeNothing, TestPartsInAnyOrder,
//     TestPartsAllocateNothing, TestWaitAllCalledOffLate].
//   - Limits under different prefixes share a Redis without mixing
//     [TestPrefixesDoNotMix].
//   - A limit on trial denies nothing, takes what it would have taken, and counts
//     exactly what it would have denied [TestShadowCountsWhatWouldBeDenied,
//     TestShadowNeverWaits, TestShadowPartDeniesNothing].
//   - While Redis does not answer, for whatever reason, the fleet's total stays
//     at the limit: neither nothing, nor everything, nor N times the limit; and
//     its return gives neither a burst nor a pause [TestOutageKeepsTheLimit,
//     TestOutageStarvesNoIdleKey, TestOutageWithLossGivesNoBurst,
//     TestWaitersKeepPaceInAnOutage,
//     TestPartOfTheFleetCutOff, TestCrashCostsNothing, TestStartsWithoutRedis,
//     TestProcessesKeepTheLimitThroughFaults].
//   - Every token admitted is charged once, whatever is lost on the way: a
//     request, a reply, the connection, the script cache
//     [TestReportsAreCountedOnce, TestCutRepliesAreCountedOnce,
//     TestRedisFaultsAreSurvived].
//   - Whatever is lost, doubled, late or out of order, tokens taken less those
//     given back are charged, in a report, or still to be told, each once; what
//     is dropped is counted [TestLawConservation, TestLawChargesInAnyOrder].
//   - A TAT goes back by a refund, a reset or a loss alone
//     [TestLawTATNeverGoesBack].
//   - Processes that agree on demand grant themselves no more than the rate;
//     without Redis the idle among them may together exceed it by a quarter
//     [TestLawGrantsSumToTheRate, TestLawOutageSharesSumToTheRate].
//   - A debt is gone in debt/r, and nobody whose grant is fresh admits anything
//     before [TestLawDebtIsRepaid, TestLawDebtHoldsBack].
//   - Usage that is reported more than 7 seconds after it was taken makes no debt,
//     except for what callers of Charge and Reserve have made here
//     [TestLawBacklogMakesNoDebt].
//   - The fleet stays at the limit while Redis answers a part of the calls, and
//     late; while its processes lose Redis one after the other; and while they are
//     replaced, or crash, without Close [TestBrownoutKeepsTheLimit,
//     TestLosingRedisInTurnKeepsTheLimit, TestDeploysCostNothing].
//   - Processes that all request at the same instants of a clock share one bucket
//     from the third time on [TestTicksShareOneBucket].
//   - Processes with different SyncIntervals share one bucket, and say that they
//     differ [TestIntervalsThatDifferAreSaid]; limiters with different limits under
//     one prefix say so in the log [TestLimitsThatDifferAreSaid].
//   - Whatever Redis replies, no answer is absurd, no bucket gives more than its
//     burst at once, no process calls without a pause, and lies are forgotten
//     within seconds of their end, but for a debt of at most an hour, which a
//     Reset ends [FuzzHostileReplies, TestLiesAreForgotten].
//   - With a client of [Tune], a server that claims absurd lengths, never ends a
//     line, or nests without end, in the handshake or after, is an outage
//     [TestHostileServerCrashesNothing, TestTuneGuardsEveryConnection].
//   - Whatever is written over the limiter's keys in Redis, decisions go on;
//     rubbish in fields heals, another type is reported
//     [TestRubbishInRedisStopsNothing].
//   - Any bytes are a key; what stands for one in Redis is nobody else's and none
//     of the scripts' own names [FuzzKeys]. With Config.KeySecret no key's text is
//     in Redis [TestKeySecretKeepsKeysOutOfRedis, TestKeySecretIsChecked,
//     TestKeySecretCostsResidentKeysNothing].
//   - TLS that fails is an outage whose Status.Err says what is not trusted
//     [TestTLS].
//   - What Redis loses (a wipe, a restart without data, a stale replica) is told
//     again by the processes that saw it: the shared TAT is again at least what
//     any live process knew and has charged since, a debt up to an hour of it;
//     only reports that Redis had applied without an answer may count twice
//     [TestWipeIsHealed, TestLawLossIsHealed, TestRedisFaultsAreSurvived,
//     TestDebtsOutliveALossOfRedis, TestDebtsHeardOfOutliveALoss,
//     TestDebtsHeardOfByIdleProcessesOutliveALoss].
//   - Denied requests consume nothing [TestDenialConsumesNothing,
//     TestLawDenialConsumesNothing].
//   - Only monotonic clocks count: a step of the wall clock changes nothing, and
//     a pause of the process or the machine grants at most one burst
//     [TestPauseGrantsOneBurst].
//   - At most Config.MaxKeys keys are resident, and what an evicted one had
//     used is charged all the same [TestEvictionIsByRecencyAndBounded,
//     TestEvictedUsageArrives].
//   - A flood of fresh keys hands a limited key no fresh burst, as long as those
//     keys are full again before it is, with Redis and without; it costs fresh
//     keys nothing, and no key in use its place; usage of evicted keys is told, or
//     counted as dropped [TestFloodGivesNoFreshBurst, TestFloodSparesFreshKeys,
//     TestFloodLeavesKeysInUse, TestRememberedIsNoMoreThanRemembered,
//     TestEvictedUsageIsToldOrCounted]. A debt outlives the eviction of its key, so
//     that giving it back fills nothing [TestRefundAfterEvictionIsNoGift].
//   - A [Key] decides as its key does, whatever is evicted or changed meanwhile
//     [TestHandleDecidesAsTheKeyDoes, TestHandleOutlivesEviction,
//     TestHandleFollowsItsLimit, TestHandlesLoseNothing,
//     TestDecisionsAtOnceAdmitTheBurst].
//   - Memory and goroutines grow neither with time, nor with keys, nor with how
//     long Redis is away [TestNothingGrows]. What Redis holds of a key is gone ten
//     minutes after its bucket is full, whatever the traffic, and all of it a
//     minute or so after the last one is, when the fleet has left; none of that is
//     a loss [TestStatesAreSweptWithinTenMinutes, TestExpiry, TestExpiryIsNoLoss].
//   - When a limit changes, what a key has left stays left, at most the new burst,
//     and what it owes stays owed, in tokens: by SetLimit, LimitFor and Reload, in
//     processes that replace others, and by way of the zero Limit or of none
//     [TestLimitChangeKeepsTokens, TestSuspendedLimitsLoseNothing,
//     TestLimitChangeReachesRedisAtOnce, TestMemoryOutlivesNoLimit,
//     TestRedeployedLimitKeepsTokens]. Processes with an old and a new limit side
//     by side lose nothing, and admit between the smaller limit and the larger
//     [TestRolloutOfAnotherLimit, TestRolloutLosesNothing].
//   - Starting needs no Redis; Close returns within 2 seconds and tells what is
//     left to tell where it can. It leaves no goroutine behind except in a call
//     that the client won't give up, and in a function of Config that blocks
//     [TestStartsWithoutRedis, TestCloseTellsAll, TestCloseTellsWhatItCan,
//     TestCloseReturnsThoughRedisHangs, TestCloseIsTheEndOfWaiting,
//     TestDecisionsNeverWait].
//   - A Logger, OnChange, LimitFor or Shadow that blocks stops no round, Status or
//     Close. A LimitFor or Shadow holds up its key alone, a hook of the client is
//     a call that hangs [TestBlockedLoggerStopsNothing,
//     TestBlockedOnChangeStopsNothing, TestBlockedLimitForStopsNothing,
//     TestBlockedHookIsAnOutage]. Log lines that can't be written are counted in
//     the next one [TestLinesThatAreDroppedAreCounted].
//   - The log says what decisions go by without Redis, the last shares or
//     1/Config.Processes, and it and every error name the limiter
//     [TestLogSaysWhatIsGoneOnWith, TestErrorsNameTheLimiter].
//
// # Algorithm
//
// Every process holds a token bucket per key. A report moves the shared TAT by
// the time that the usage is worth, n/r:
//
//	TAT ← max(TAT, now − age) + n/r
//
// and a reply sets the bucket to what the shared state says, less what is not
// yet reported: all of it where the fleet's demand fits what there is to give,
// else the share w = (d + ε)/(D + N·ε) of it, with d this process's demand, D
// everybody's, and a threshold drawn anew in each round, which lets a share of
// a fifth of a token admit one request in a fifth of the rounds. docs/design.md
// has all rules, docs/design-notes.md the rejected options.
//
// The generic cell rate algorithm is that of ITU-T I.371; demand-proportional
// shares follow Raghavan et al., Cloud Control with Distributed Rate Limiting
// (SIGCOMM 2007); token buckets that are settled in batches and may go into
// debt follow CockroachDB's RFC on distributed token buckets.
//
// # When Redis is unreachable
//
// A key goes stale when its last exchange failed or hangs for 3·T, or three
// round trips where those are longer. It then has the share that the averages
// of the last half minute give, of the rate and of what the shared bucket held;
// an equal share where the key was asked for, fell quiet, and was not heard of
// from elsewhere. A process that was idle gets a quarter of an equal share
// within about a minute. Usage is charged in full when Redis is back, except that what was admitted while
// nobody reached it may empty the bucket but not put it into debt.
// [Limiter.Status] and Config.OnChange tell. docs/operating.md has a runbook by
// symptom.
//
// # Concurrency
//
// All methods may be called from any goroutine. A key is found without a lock,
// and has one of its own, which is held for its bucket's arithmetic and never
// during I/O, a callback or a log call. A limiter with Redis has one goroutine of
// its own, up to two that carry calls, and one each for log lines and OnChange
// while there are any. A limiter without Redis has none.
//
// # How sure it is
//
// [Result].Age is how old the exchange behind a decision is, and
// [Stats].OverAdmitted how many tokens were found to have been admitted beyond
// one central bucket. docs/accuracy.md has the fleet measured against one, over
// demand, size, limits, outages and losses.
//
// # Cost
//
// A decision on one key in use takes about two thirds of one of a bare
// x/time/rate.Limiter; with a million keys the processor's caches decide. A key
// costs 1.6 µs of Redis CPU each time it is exchanged in a full batch of 128, 2
// to 3 in smaller ones. docs/benchmarks.md has the figures, docs/design-notes.md
// where they come from.
package limiter
