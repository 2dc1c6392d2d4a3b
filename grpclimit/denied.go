package grpclimit

import (
	"golang.org/x/time/rate"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/seed-e56e777b/limiter"
)

// DeniedError is the error that a denied call ends with by default:
// [codes.ResourceExhausted], with a google.rpc.RetryInfo unless r.RetryAfter
// says never.
func DeniedError(r limiter.Result) error {
	if r.RetryAfter == rate.InfDuration {
		return status.Error(codes.ResourceExhausted, "rate limit exceeded: the call costs more than the limit ever admits at once")
	}
	s := status.New(codes.ResourceExhausted, "rate limit exceeded")
	detailed, err := s.WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(r.RetryAfter)})
	if err != nil {
		return s.Err() // the code says the most important
	}
	return detailed.Err()
}
