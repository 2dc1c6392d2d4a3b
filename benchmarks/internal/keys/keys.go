// Package keys makes the keys that benchmarks ask for, and the order in which
// they are asked for.
package keys

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// length of every key, in bytes.
const length = 13

// Name is the i-th key, in memory of its own.
func Name(i int) string {
	name := []byte("user:00000000")
	for at := length - 1; i > 0; i /= 10 {
		name[at] += byte(i % 10)
		at--
	}
	return string(name)
}

// Order says which of n keys is asked for next.
type Order func() int

// Uniform asks for all n keys alike.
func Uniform(n int, seed uint64) Order {
	rng := rand.New(rand.NewPCG(seed, 1))
	return func() int { return rng.IntN(n) }
}

// Zipf asks for the key of rank k in proportion to k^-1.1. Ranks are spread over
// the keys at random, or the busiest would lie side by side in memory.
func Zipf(n int, seed uint64) Order {
	const exponent = 1.1
	rng := rand.New(rand.NewPCG(seed, 1))
	zipf := rand.NewZipf(rng, exponent, 1, uint64(n-1))
	key := rand.New(rand.NewPCG(1, 1)).Perm(n) // the same ranks whatever the seed
	return func() int { return key[zipf.Uint64()] }
}

// Sequence is a long list of keys to ask for, again and again. Their texts lie
// one behind the other in memory, as those of a server lie in the cache when it
// has just read the request, and are never the strings that a limiter holds: two
// equal strings at one address would be compared without being read.
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

// At is the i-th key, from any i on.
func (s Sequence) At(i int) string { return s.keys[i&(len(s.keys)-1)] }

// Start is a place to begin at, another each time.
func (s Sequence) Start() int { return rand.IntN(len(s.keys)) }
