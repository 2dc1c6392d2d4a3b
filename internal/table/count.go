package table

// countTries is the largest number of times that Decisions adds up the counts of slots.
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

// keep adds the counts of a slot to the table's, before another key gets the slot.
func (t *Table) keep(s *Slot) {
	t.allowed.Add(uint64(s.Allowed))
	t.denied.Add(uint64(s.Denied))
}

// Decisions returns the numbers of all decisions counted. Neither falls. Calls must not
// overlap. It may miss a slot whose counts move to the table meanwhile. Then it starts
// again, at most countTries times, and the next call has them.
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
