// Package grpclimit limits the calls of a gRPC server, with a [limiter.Limiter].
//
//	opts := grpclimit.Options{Key: tenant}
//	server := grpc.NewServer(
//		grpc.ChainUnaryInterceptor(authenticate, grpclimit.UnaryServerInterceptor(l, opts)),
//		grpc.ChainStreamInterceptor(authenticateStream, grpclimit.StreamServerInterceptor(l, opts)),
//	)
//
// Put it before expensive interceptors, and after authentication if keys come from
// that.
//
// # Denials
//
// A call that exceeds the limit ends with [codes.ResourceExhausted]. The status has a
// google.rpc.RetryInfo with the time after which the call is expected to be admitted.
// Except: there is none for a cost above the burst, for which no wait helps.
//
//	for _, detail := range status.Convert(err).Details() {
//		if info, ok := detail.(*errdetails.RetryInfo); ok {
//			wait(info.GetRetryDelay().AsDuration())
//		}
//	}
//
// The trailer has the same time as grpc-retry-pushback-ms, in milliseconds, or -1 if
// no wait helps. Retry policies of clients follow it. With a policy that includes
// RESOURCE_EXHAUSTED, a client of grpc-go waits as long and repeats the call:
//
//	{"methodConfig": [{"name": [{}], "retryPolicy": {
//		"maxAttempts": 3, "initialBackoff": "0.1s", "maxBackoff": "1s", "backoffMultiplier": 2,
//		"retryableStatusCodes": ["RESOURCE_EXHAUSTED"]
//	}}]}
//
// A client can't repeat a stream whose server has already sent a message or headers.
//
// The status has no QuotaFailure, because that would have to name the key, which may
// be a secret. [Options.Denied] can add one.
//
// # Several limits
//
// [Options.Parts] decides on several limits at once, all or nothing, such as those of
// a user, a tenant and the service. The time to retry after is the longest of the
// parts that deny. [FromContext] returns the decision to the handler and to Denied,
// and [PartsFromContext] that on each part, which the handler can settle if it knows
// the cost only afterwards.
//
// # Streams
//
// A stream takes tokens once, when it opens. With [Options.PerMessage], each message
// that the server receives takes tokens too. The first denied message ends the
// stream with its error, even if the handler returns nil. Messages that the server
// sends never take tokens.
//
// # Clients
//
// [UnaryClientInterceptor] and [StreamClientInterceptor] are for calls to servers with
// limits of their own: a call waits for its server, and a fleet of clients pauses
// together when the server asks for it.
package grpclimit
