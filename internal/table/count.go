package table

// countTries is how often Decisions adds up what slots have counted.
const countTries = 3

// Allow counts a decision that admitted, on a key whose slot is locked.
func (t *Table) Allow(s *Slot) {
	if s.Allowed++; s.Allowed == 0 {
		t.allowed.Add(1 << 8)
	}
}

// Deny counts a decision that denied, on a key whose slot is locked.
func (t *Table) Deny(s *Slot) {
	if s.Denied++; s.Denied == 0 {
		t.denied.Add(1 << 8)
	}
}

// CountOutside counts a decision on a key that has no slot.
func (t *Table) CountOutside(ok bool) {
	if ok {
		t.allowed.Add(1)
		return
	}
	t.denied.Add(1)
}

// keep takes over what a slot has counted, before another key has it.
func (t *Table) keep(s *Slot) {
	t.allowed.Add(uint64(s.Allowed))
	t.denied.Add(uint64(s.Denied))
}

// Decisions returns the numbers of decisions that were counted, ever. Neither falls.
// Calls must not overlap. A slot that passes its count on while the slots are visited
// may be missed: then Decisions begins again, a few times, and the next call has it.
func (t *Table) Decisions() (allowed, denied uint64) {
	for range countTries {
		before := [...]uint64{t.allowed.Load(), t.denied.Load()}
		allowed, denied = before[0], before[1]
		t.Each(func(r Ref) {
			allowed += uint64(r.Allowed)
			denied += uint64(r.Denied)
			r.Unlock()
		})
		if before == [...]uint64{t.allowed.Load(), t.denied.Load()} {
			break
		}
	}
	t.counted[0], t.counted[1] = max(t.counted[0], allowed), max(t.counted[1], denied)
	return t.counted[0], t.counted[1]
}
