// Package keyform has the forms of a key: as callers give it, as the process keeps it
// (the local key), and as Redis has it (the field). A local key is the key itself, or
// the digest of a long one. A field is a type byte before the key or before a digest:
// 'k' or 'd'.
package keyform

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"

	"github.com/seed-e56e777b/limiter/internal/table"
	"github.com/seed-e56e777b/limiter/internal/topkeys"
)

// Sizes in bytes.
const (
	MaxKey     = 64 // the longest key that is kept and sent as it is
	DigestSize = 16
	FieldSize  = 1 + DigestSize // of a field that is a digest
)

var _ = [1]struct{}{}[topkeys.MaxKey-(MaxKey+1)] // compiles only if counts of denials hold every local key

// Local returns the local key of a key. That of a digest is longer than MaxKey, so that
// no key can be taken for it.
func Local(key string) string {
	if len(key) > MaxKey {
		return table.Digest(key, DigestSize, new([MaxKey + 1]byte)[:])
	}
	return key
}

// FromField returns the local key of a field that was made without a secret.
func FromField(field string) string {
	if field[0] == 'd' {
		return field[1:] + string(make([]byte, MaxKey+1-DigestSize))
	}
	return field[1:]
}

// Field returns the field of a local key. With a secret it is a keyed digest, which
// says nothing of the key to readers without the secret.
func Field(secret []byte, localKey string) string {
	switch {
	case secret != nil:
		return "d" + keyedDigest(secret, localKey)
	case len(localKey) > MaxKey:
		return "d" + localKey[:DigestSize]
	}
	return "k" + localKey
}

// keyedDigest returns the HMAC-SHA-256 of a local key, cut to DigestSize.
func keyedDigest(secret []byte, localKey string) string {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(localKey))
	return string(mac.Sum(nil)[:DigestSize])
}

// Show returns the form in which people read a local key: the key itself, or the digest
// of its field in hexadecimal. With a secret it is a digest in any case.
func Show(secret []byte, localKey string) (text string, digest bool) {
	field := Field(secret, localKey)
	if field[0] == 'k' {
		return field[1:], false
	}
	return hex.EncodeToString([]byte(field[1:])), true
}
