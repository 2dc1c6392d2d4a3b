package index

import "testing"

// TestReadersOfAnOldMaskEnd: who has read the mask before the table grew, and the
// slots after, may meet nothing but slots that are taken.
func TestReadersOfAnOldMaskEnd(t *testing.T) {
	var table Table
	for n := range uint32(12) {
		table.Insert(n, n+1)
	}
	table.mask.Store(least - 1)
	if n := table.Find(1 << 10); n != 0 {
		t.Errorf("found %d, which has another hash", n)
	}
}
