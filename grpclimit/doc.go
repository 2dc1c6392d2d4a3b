// Package grpclimit limits the calls that a gRPC server takes, with a
// [limiter.Limiter].
//
//	opts := grpclimit.Options{Key: tenant}
//	server := grpc.NewServer(
//		grpc.ChainUnaryInterceptor(authenticate, grpclimit.UnaryServerInterceptor(l, opts)),
//		grpc.ChainStreamInterceptor(authenticateStream, grpclimit.StreamServerInterceptor(l, opts)),
//	)
//
// Put it after what authenticates, where keys come from that, and before what
// is expensive.
//
// # Denials
//
// A call that exceeds the limit ends with [codes.ResourceExhausted], which
// grpc-go's own clients repeat only where their retry policy says so. The status
// carries a google.rpc.RetryInfo with the time after which the call is expected
// to be admitted, unless waiting can't help (a cost above the burst):
//
//	for _, detail := range status.Convert(err).Details() {
//		if info, ok := detail.(*errdetails.RetryInfo); ok {
//			wait(info.GetRetryDelay().AsDuration())
//		}
//	}
//
// Nothing else is added: a QuotaFailure would have to name the key, which is
// the server's business. [Options.Denied] can.
//
// # Streams
//
// A stream is decided on once, when it opens, however long it lives. With
// [Options.PerMessage] each message that the server receives is decided on too,
// beside the opening, and the first one denied ends the stream, with its error
// even where the handler returns nil. Messages that the server sends are never
// counted.
package grpclimit
