package table

import (
	"math/rand/v2"
	"sync"
	"testing"
)

// TestLimitsAreCounted: a handle is valid while it is in use, and unused handles are
// reused.
func TestLimitsAreCounted(t *testing.T) {
	var l Limits
	a, b := Limit{1, 2}, Limit{3, 4}
	na, nb := l.Take(a), l.Take(b)
	if again := l.Take(a); again != na || *l.At(na) != a || *l.At(nb) != b || l.Len() != 2 {
		t.Fatalf("numbers %d, %d and %d, of %v and %v", na, nb, again, *l.At(na), *l.At(nb))
	}
	l.Release(na)
	if *l.At(na) != a || l.Len() != 2 {
		t.Fatal("gone, though in use")
	}
	l.Release(na)
	if l.Len() != 1 {
		t.Fatal("not gone, though nobody uses it")
	}
	if n := l.Take(Limit{5, 6}); n != na || *l.At(n) != (Limit{5, 6}) {
		t.Errorf("%d is %v, want %d", n, *l.At(n), na)
	}
}

// TestLimitsOfMany: under all cores.
func TestLimitsOfMany(t *testing.T) {
	var (
		l   Limits
		all sync.WaitGroup
	)
	for g := range 4 {
		all.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(g), 0))
			for range 20_000 {
				want := Limit{float64(rng.IntN(5)), 1}
				n := l.Take(want)
				if got := *l.At(n); got != want {
					t.Errorf("%d is %v, want %v", n, got, want)
				}
				l.Release(n)
			}
		})
	}
	all.Wait()
	if l.Len() != 0 {
		t.Errorf("%d limits are left", l.Len())
	}
}
