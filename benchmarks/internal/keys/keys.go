// Package keys makes the keys of benchmarks, and the order of their requests.
package keys

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// length of every key, in bytes.
const length = 13

// Name returns the i-th key, as a new string.
func Name(i int) string {
	name := []byte("user:00000000")
	for at := length - 1; i > 0; i /= 10 {
		name[at] += byte(i % 10)
		at--
	}
	return string(name)
}

// Order is a function that returns the index of the next of n keys.
type Order func() int

// Uniform returns an order in which all n keys are equally frequent.
func Uniform(n int, seed uint64) Order {
	rng := rand.New(rand.NewPCG(seed, 1))
	return func() int { return rng.IntN(n) }
}

// Zipf returns an order in which the key of rank k has a frequency proportional to
// k^-1.1. Ranks are random, so that busy keys are not neighbours in memory.
func Zipf(n int, seed uint64) Order {
	const exponent = 1.1
	rng := rand.New(rand.NewPCG(seed, 1))
	zipf := rand.NewZipf(rng, exponent, 1, uint64(n-1))
	key := rand.New(rand.NewPCG(1, 1)).Perm(n) // the same ranks for every seed
	return func() int { return key[zipf.Uint64()] }
}

// Sequence is a long list of keys, to be repeated. Their texts lie one behind the other
// in memory, because a server's key is in the cache when it has just read the request.
// They are never the strings of a limiter, because equal strings at one address are
// compared without being read.
type Sequence struct{ keys []string }

// NewSequence draws size keys, a power of two.
func NewSequence(size int, next Order) Sequence {
	if size&(size-1) != 0 {
		panic(fmt.Sprintf("keys: a sequence of %d, which is no power of two", size))
	}
	var text strings.Builder
	text.Grow(size * length)
	for range size {
		text.WriteString(Name(next()))
	}
	s := Sequence{keys: make([]string, size)}
	for i := range s.keys {
		s.keys[i] = text.String()[i*length : (i+1)*length]
	}
	return s
}

// At returns the i-th key, for any i.
func (s Sequence) At(i int) string { return s.keys[i&(len(s.keys)-1)] }

// Start returns an index to begin at, a different one each time.
func (s Sequence) Start() int { return rand.IntN(len(s.keys)) }
