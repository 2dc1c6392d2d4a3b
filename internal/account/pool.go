package account

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
)

const keptFree = 16 // accounts that a shard keeps for its next keys

// Pool has the accounts of a shard of keys, numbered from 1. A key refers to its account
// by the number, for which its slot has room.
type Pool struct {
	Spare *Spares // accounts of all shards that no key has

	all  atomic.Pointer[[]*Account] // accounts by number − 1
	mu   sync.Mutex                 // locked after all others except that of spares; guards the rest
	free []*Account                 // at most keptFree accounts that no key has
	gone []uint32                   // numbers that no account has
}

// Spares are accounts of all shards that no key has. Those that no key needs for a while
// go ([Spares.Trim]).
type Spares struct {
	mu   sync.Mutex
	list []*Account
	idle int // number of accounts that no key has needed since the last Trim
}

// At returns the account of a number.
func (p *Pool) At(number uint32) *Account { return (*p.all.Load())[number-1] }

// Made returns the number of accounts that keys have had at the same time, at most.
func (p *Pool) Made() int {
	if all := p.all.Load(); all != nil {
		return len(*all)
	}
	return 0
}

// InUse returns the number of accounts that keys have.
func (p *Pool) InUse() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.Made() - len(p.gone) - len(p.free)
}

// Take returns an account that no key has. Its contents are those of the key before.
func (p *Pool) Take() (a *Account) {
	p.mu.Lock()
	if last := len(p.free) - 1; last >= 0 {
		a, p.free = p.free[last], p.free[:last]
	} else {
		a = p.add(p.Spare.take())
	}
	p.mu.Unlock()
	return a
}

// add gives an account a number.
func (p *Pool) add(a *Account) *Account {
	var all []*Account
	if old := p.all.Load(); old != nil {
		all = *old
	}
	if last := len(p.gone) - 1; last >= 0 {
		a.Number, p.gone = p.gone[last], p.gone[:last]
		all[a.Number-1] = a // no key refers to the number yet
		return a
	}
	all = append(all, a)
	a.Number = uint32(len(all))
	p.all.Store(&all)
	return a
}

// Release returns an account to the pool, for another key.
func (p *Pool) Release(a *Account) {
	p.mu.Lock()
	defer p.mu.Unlock()
	a.Generation++
	if len(p.free) < keptFree {
		p.free = append(p.free, a)
		return
	}
	(*p.all.Load())[a.Number-1] = nil
	p.gone = append(p.gone, a.Number)
	p.Spare.put(a)
}

// take returns a spare account, or a new one.
func (s *Spares) take() *Account {
	s.mu.Lock()
	defer s.mu.Unlock()
	last := len(s.list) - 1
	if last < 0 {
		return new(Account)
	}
	a := s.list[last]
	s.list = s.list[:last]
	s.idle = min(s.idle, last)
	return a
}

func (s *Spares) put(a *Account) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = append(s.list, a)
}

// Trim drops the accounts that no key has needed since the last Trim.
func (s *Spares) Trim() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = slices.Delete(s.list, 0, s.idle)
	s.idle = len(s.list)
}

// Check returns an error if an account is neither free nor in use, or both. Tests call it.
func (p *Pool) Check(used map[*Account]bool) error {
	for _, a := range p.free {
		if used[a] {
			return fmt.Errorf("an account is free and in use: %+v", a)
		}
	}
	if n := p.InUse(); n != len(used) {
		return fmt.Errorf("%d accounts are not free, %d in use", n, len(used))
	}
	return nil
}
