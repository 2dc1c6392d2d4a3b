package replay

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/logs"
)

// denied is a key that was denied at least once.
type denied struct {
	name        string
	count       int
	first, last float64
}

// maxName bounds what is kept of a key's name, in bytes.
const maxName = 200

// denials count the denials of each key, for a bounded number of keys.
type denials struct {
	*table[denied]
	forgotten int // keys, to make room
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

// nameOf is a key as it is shown.
func nameOf(key []byte) string {
	if len(key) > maxName {
		key = append(bytes.Clone(key[:maxName]), "…"...)
	}
	return string(bytes.ToValidUTF8(bytes.ReplaceAll(key, []byte{logs.Separator}, []byte(" ")), []byte("�")))
}

// top are the keys that were denied most.
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

// byCount has the most denied first; among equals the order does not depend on
// that of the table.
func byCount(a, b denied) int {
	return cmp.Or(cmp.Compare(b.count, a.count), cmp.Compare(a.first, b.first), cmp.Compare(a.name, b.name))
}
