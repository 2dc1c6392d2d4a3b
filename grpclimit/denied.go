package grpclimit

import (
	"golang.org/x/time/rate"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/seed-e56e777b/limiter"
)

// DeniedError returns the default error of a denied call:
// [codes.ResourceExhausted], with a google.rpc.RetryInfo unless no wait would help.
func DeniedError(r limiter.Result) error {
	if r.RetryAfter == rate.InfDuration {
		return status.Error(codes.ResourceExhausted, "rate limit exceeded: the call costs more than the limit ever admits at once")
	}
	s := status.New(codes.ResourceExhausted, "rate limit exceeded")
	detailed, err := s.WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(r.RetryAfter)})
	if err != nil {
		return s.Err() // without the details
	}
	return detailed.Err()
}
