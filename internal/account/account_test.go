package account

import (
	"reflect"
	"testing"
)

// TestAccountFitsItsSizeClass: Go allocates at most 352 bytes for an account. Its next
// size class is 384.
func TestAccountFitsItsSizeClass(t *testing.T) {
	if size := reflect.TypeFor[Account]().Size(); size > 352 {
		t.Errorf("an account has %d bytes", size)
	}
}
