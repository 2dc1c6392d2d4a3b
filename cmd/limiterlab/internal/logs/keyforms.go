package logs

import "bytes"

// KeyForms counts requests by the form of their keys, for notes on keys that do
// not look like clients.
type KeyForms struct {
	Requests int // requests with a key
	Internal int // requests whose key is an address of a private network or of the machine itself
	Times    int // requests whose key is a time, but no whole number
	Numbers  int // requests whose key is another number
	Ports    int // requests whose key is an address with its port

	often []byte // key of more than half of the requests, if there is one
	votes int    // at most the requests with that key less those with others
	clock clock
}

func (k *KeyForms) add(e *Entry) {
	k.Requests++
	switch {
	case bytes.Equal(e.Key, k.often):
		k.votes++
	case k.votes == 0:
		k.often, k.votes = append(k.often[:0], e.Key...), 1
	default:
		k.votes--
	}
	switch {
	case e.internal:
		k.Internal++
	case !e.address && (isDigit(e.Key[0]) || e.Key[0] == '['):
		k.addText(e.Key)
	}
}

// addText counts a key that is text to the replay.
func (k *KeyForms) addText(key []byte) {
	a, withPort, isAddress := parseAddress(key)
	var e Entry
	switch {
	case isAddress && withPort && (a.Is4() || key[0] == '['):
		k.Ports++
	case isAddress && isInternal(a):
		k.Internal++
	case isAddress:
	case isNumber(key): // large ones are numbers of users as often as times
		k.Numbers++
	case k.clock.read(key, &e) == nil:
		k.Times++
	case isNumber(bytes.Replace(key, []byte("."), nil, 1)):
		k.Numbers++
	}
}

// Often returns the key of at least nine in ten requests. ok is false if there
// is none.
func (k *KeyForms) Often() (key string, ok bool) {
	if 10*k.votes < 8*k.Requests || k.Requests == 0 {
		return "", false
	}
	return string(k.often), true
}
