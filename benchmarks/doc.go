// Package benchmarks compares limiter with its peers: the cost of a decision in the
// process and in Redis, the memory of a key, and the cost of a full GC. This command
// runs all benchmarks in turns and writes docs/benchmarks.md:
//
//	go run ./cmd/limiterbench
package benchmarks
