package replay

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/logs"
)

// denied is a key with at least one denial.
type denied struct {
	name        string
	count       int     // denials
	first, last float64 // instants of the first and the last denial
}

// maxName is the largest length of a key's name in the report, in bytes.
const maxName = 200

// denials counts the denials of each key, for a bounded number of keys.
type denials struct {
	*table[denied]
	forgotten int // evicted keys
}

func newDenials(most int) *denials {
	d := &denials{}
	d.table = newTable(most, func(*denied) { d.forgotten++ })
	return d
}

func (d *denials) add(hash uint64, key []byte, now float64) {
	k, isNew := d.get(hash)
	if isNew {
		k.name, k.first = nameOf(key), now
	}
	k.count++
	k.last = now
}

// nameOf returns a key as the report shows it: as valid UTF-8, at most maxName
// bytes of it, with spaces between its parts.
func nameOf(key []byte) string {
	if len(key) > maxName {
		key = append(bytes.Clone(key[:maxName]), "…"...)
	}
	return string(bytes.ToValidUTF8(bytes.ReplaceAll(key, []byte{logs.Separator}, []byte(" ")), []byte("�")))
}

// top returns the n keys with the most denials, in the order of byCount.
func (d *denials) top(n int) []denied {
	var top []denied
	d.all(func(k *denied) {
		i, _ := slices.BinarySearchFunc(top, *k, byCount)
		if i < n {
			top = slices.Insert(top, i, *k)
			top = top[:min(len(top), n)]
		}
	})
	return top
}

// byCount compares keys by their denials, most first, then by first denial and
// by name. The order of the table does not matter to it.
func byCount(a, b denied) int {
	return cmp.Or(cmp.Compare(b.count, a.count), cmp.Compare(a.first, b.first), cmp.Compare(a.name, b.name))
}
