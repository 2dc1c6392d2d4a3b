package limiter

import (
	"reflect"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
)

// TestEntriesHaveNoPointers: a collection of garbage has nothing to follow in a
// resident key, and with a key of up to 64 bytes it fits into 512.
func TestEntriesHaveNoPointers(t *testing.T) {
	for _, e := range []any{entry{}, longEntry{}, longestEntry{}} {
		checkNoPointers(t, reflect.TypeOf(e))
	}
	if size := unsafe.Sizeof(longEntry{}); size > 512 || longText < 1+maxKey {
		t.Errorf("an entry with %d bytes of text takes %d bytes", longText, size)
	}
}

func checkNoPointers(t *testing.T, typ reflect.Type) {
	t.Helper()
	switch typ.Kind() {
	case reflect.Struct:
		for f := range typ.Fields() {
			checkNoPointers(t, f.Type)
		}
	case reflect.Array:
		checkNoPointers(t, typ.Elem())
	case reflect.Bool, reflect.Float32, reflect.Float64, reflect.Int32, reflect.Int64,
		reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
	default:
		t.Errorf("there is a %v", typ)
	}
}

// TestWaitOutlivesEviction: who waits for a key that makes room for another goes
// on when its time has come, and nothing is kept of its wait.
func TestWaitOutlivesEviction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 2, Config{Limit: Limit{Rate: 1, Burst: 2}, MaxKeys: 1})
		defer f.close()
		m := f.members[0]
		m.Charge("a", 4)
		done := make(chan error, 1)
		go func() { done <- m.Wait(t.Context(), "a") }()
		synctest.Wait()
		kept := func() (n int) {
			m.local.grants.Range(func(any, any) bool { n++; return true })
			return n
		}
		require.Equal(t, 1, kept(), "nobody waits")
		m.Allow("b")
		synctest.Wait()
		if n := kept(); n != 0 {
			t.Errorf("%d keys that are not resident are waited for", n)
		}
		start := time.Now()
		require.NoError(t, <-done)
		if d := time.Since(start); d < time.Second || d > 10*time.Second {
			t.Errorf("it waited for %v", d)
		}
	})
}
