package table

import "github.com/hashicorp/golang-lru/v2/simplelru"

// exact is an exact LRU of keys.
type exact struct {
	lru *simplelru.LRU[string, struct{}]
}

func newExact(size int) *exact {
	lru, err := simplelru.NewLRU[string, struct{}](size, nil)
	if err != nil {
		panic(err)
	}
	return &exact{lru}
}

// get reports whether a key is there, and puts it there.
func (e *exact) get(key string) bool {
	if _, ok := e.lru.Get(key); ok {
		return true
	}
	e.lru.Add(key, struct{}{})
	return false
}
