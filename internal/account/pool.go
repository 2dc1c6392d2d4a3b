package account

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
)

const keptFree = 16 // accounts that a shard keeps for its next keys

// Pool are the accounts of a shard, numbered from 1. A key refers to its own by the
// number, for which there is room in its slot.
type Pool struct {
	All   atomic.Pointer[[]*Account]
	Spare *Spares
	mu    sync.Mutex // taken after all others except that of spares
	Free  []*Account // at most keptFree
	Gone  []uint32   // numbers that nobody has
}

// Spares are accounts that no key has, of all shards, which are kept for a while.
type Spares struct {
	mu   sync.Mutex
	List []*Account
	idle int // how many nobody has needed since the last trim
}

func (p *Pool) At(number uint32) *Account { return (*p.All.Load())[number-1] }

// Take returns an account that nobody uses, as it was left.
func (p *Pool) Take() (a *Account) {
	p.mu.Lock()
	if last := len(p.Free) - 1; last >= 0 {
		a, p.Free = p.Free[last], p.Free[:last]
	} else {
		a = p.add(p.Spare.take())
	}
	p.mu.Unlock()
	return a
}

// add gives an account a number.
func (p *Pool) add(a *Account) *Account {
	var all []*Account
	if old := p.All.Load(); old != nil {
		all = *old
	}
	if last := len(p.Gone) - 1; last >= 0 {
		a.Number, p.Gone = p.Gone[last], p.Gone[:last]
		all[a.Number-1] = a // nobody reads it yet
		return a
	}
	all = append(all, a)
	a.Number = uint32(len(all))
	p.All.Store(&all)
	return a
}

// Release has an account used by another key.
func (p *Pool) Release(a *Account) {
	p.mu.Lock()
	defer p.mu.Unlock()
	a.Generation++
	if len(p.Free) < keptFree {
		p.Free = append(p.Free, a)
		return
	}
	(*p.All.Load())[a.Number-1] = nil
	p.Gone = append(p.Gone, a.Number)
	p.Spare.put(a)
}

// take returns an account, which is made if there is none.
func (s *Spares) take() *Account {
	s.mu.Lock()
	defer s.mu.Unlock()
	last := len(s.List) - 1
	if last < 0 {
		return new(Account)
	}
	a := s.List[last]
	s.List = s.List[:last]
	s.idle = min(s.idle, last)
	return a
}

func (s *Spares) put(a *Account) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.List = append(s.List, a)
}

// Trim lets go of the accounts that nobody has needed since the last trim.
func (s *Spares) Trim() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.List = slices.Delete(s.List, 0, s.idle)
	s.idle = len(s.List)
}

// Check checks that every account is either free or in use.
func (p *Pool) Check(used map[*Account]bool) error {
	if p.All.Load() == nil {
		return nil
	}
	for _, a := range p.Free {
		if used[a] {
			return fmt.Errorf("an account is free and in use: %+v", a)
		}
	}
	if made := len(*p.All.Load()) - len(p.Gone); made != len(p.Free)+len(used) {
		return fmt.Errorf("%d accounts made, %d free, %d in use", made, len(p.Free), len(used))
	}
	return nil
}
