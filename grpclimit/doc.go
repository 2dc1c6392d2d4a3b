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
// A call that exceeds the limit ends with [codes.ResourceExhausted]. Clients of
// grpc-go repeat such a call only if their retry policy includes that code. The
// status has a google.rpc.RetryInfo with the time after which the call is expected
// to be admitted. Except: there is none for a cost above the burst, for which no
// wait helps.
//
//	for _, detail := range status.Convert(err).Details() {
//		if info, ok := detail.(*errdetails.RetryInfo); ok {
//			wait(info.GetRetryDelay().AsDuration())
//		}
//	}
//
// The status has no QuotaFailure, because that would have to name the key, which may
// be a secret. [Options.Denied] can add one.
//
// # Streams
//
// A stream takes tokens once, when it opens. With [Options.PerMessage], each message
// that the server receives takes tokens too. The first denied message ends the
// stream with its error, even if the handler returns nil. Messages that the server
// sends never take tokens.
package grpclimit
