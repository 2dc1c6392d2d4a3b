// Package benchmarks compares limiter with its peers: what one decision costs
// in the process and in Redis, what a key takes, and what a full collection of
// garbage costs. It holds nothing but benchmarks and what runs them:
//
//	go run ./cmd/limiterbench
//
// runs all of them in turns and writes docs/benchmarks.md.
package benchmarks
