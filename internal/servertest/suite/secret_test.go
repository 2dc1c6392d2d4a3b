package suite_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/internal/servertest"
	"github.com/seed-e56e777b/limiter/internal/servertest/redisserver"
)

// everyByte is all that a Redis holds, names and values, as a dump writes it.
func everyByte(t testing.TB, client redis.UniversalClient) []byte {
	t.Helper()
	names, err := client.Keys(t.Context(), "*").Result()
	require.NoError(t, err)
	var all bytes.Buffer
	for _, name := range names {
		all.WriteString(name)
		fields, err := client.HGetAll(t.Context(), name).Result()
		require.NoError(t, err)
		for field, value := range fields {
			all.WriteString(field + value)
		}
	}
	return all.Bytes()
}

// secretKeys are told apart by a word that a search finds.
func secretKeys() []string {
	keys := []string{"alice@example.com", strings.Repeat("long alice@example.com ", 5)}
	for i := range 40 {
		keys = append(keys, fmt.Sprint("alice@example.com/", i))
	}
	return keys
}

// TestKeySecretKeepsKeysOutOfRedis: with a secret no key's text is in Redis;
// processes with the same secret share their limits, others don't.
func TestKeySecretKeepsKeysOutOfRedis(t *testing.T) {
	t.Parallel()
	s := servertest.Server(t, redisserver.Options{})
	admin := s.Client()
	t.Cleanup(func() { _ = admin.Close() })
	with := func(secret []byte) *limiter.Limiter {
		l := start(t, tuned(s.Addr()), limiter.Config{Limit: slow, KeySecret: secret})
		eventually(t, "synced", synced(l))
		return l
	}
	secret := []byte("sixteen bytes 00")
	one, same := with(secret), with(bytes.Clone(secret))
	other, none := with([]byte("sixteen bytes 01")), with(nil)
	clear(secret) // the caller's own copy is the caller's business
	for _, key := range secretKeys() {
		require.True(t, one.AllowN(key, 60))
	}
	exchanged(t, one)
	if held := everyByte(t, admin); bytes.Contains(held, []byte("alice")) || len(held) == 0 {
		t.Errorf("%d bytes in Redis, with the text of a key", len(held))
	}
	for _, key := range secretKeys() {
		for _, l := range []*limiter.Limiter{same, other, none} {
			l.AllowN(key, 0)
			l.AllowN(key, 1)
		}
	}
	for name, tc := range map[string]struct {
		l    *limiter.Limiter
		want int
	}{"the same secret": {same, 39}, "another secret": {other, 99}, "no secret": {none, 99}} {
		exchanged(t, tc.l)
		for _, key := range secretKeys() {
			if got := seen(tc.l, key); got != tc.want {
				t.Errorf("%s: %d left of %q, want %d", name, got, key, tc.want)
			}
		}
	}
	if !bytes.Contains(everyByte(t, admin), []byte("alice")) {
		t.Error("a search that finds no key without a secret finds nothing at all")
	}
	eventually(t, "a Reset", func() bool { return same.Reset(t.Context(), secretKeys()[0]) == nil })
	eventually(t, "a process with the same secret follows", func() bool { // once older news of the key is followed by the Reset's
		exchanged(t, one)
		return seen(one, secretKeys()[0]) >= 99
	})
}
