package otellimit

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/seed-e56e777b/limiter"
)

// TestEveryFactIsExposed: each field of Stats and Status moves some row, so
// that a field added to the limiter is not forgotten here.
func TestEveryFactIsExposed(t *testing.T) {
	before := values(snapshot{})
	for _, part := range []string{"Stats", "Status"} {
		typ := reflect.TypeFor[snapshot]()
		sub, _ := typ.FieldByName(part)
		for i := range sub.Type.NumField() {
			name := sub.Type.Field(i).Name
			if name == "Err" {
				continue // a text; that rounds fail is in limiter.rounds
			}
			var s snapshot
			set(t, reflect.ValueOf(&s).Elem().FieldByName(part).Field(i))
			if reflect.DeepEqual(values(s), before) {
				t.Errorf("no row of facts has %s.%s", part, name)
			}
		}
	}
}

// TestEveryRowIsAnotherFact: no two rows read the same field.
func TestEveryRowIsAnotherFact(t *testing.T) {
	var s snapshot
	number := 1000
	for _, part := range []any{&s.Stats, &s.Status} {
		for _, field := range reflect.ValueOf(part).Elem().Fields() {
			number++
			switch field.Interface().(type) {
			case int:
				field.SetInt(int64(number))
			case uint64:
				field.SetUint(uint64(number))
			case time.Time:
				field.Set(reflect.ValueOf(time.Unix(int64(number), 0)))
			}
		}
	}
	rows := map[int64]string{}
	for _, f := range facts {
		if f.name == "limiter.state" {
			continue // 0 or 1
		}
		v := f.value(s)
		if other, taken := rows[v]; taken {
			t.Errorf("%s %v and %s read the same field", f.name, f.attributes, other)
		}
		rows[v] = f.name
	}
}

func TestEveryStateHasASeries(t *testing.T) {
	named := map[string]bool{}
	for _, f := range facts {
		for _, a := range f.attributes {
			named[a.Value.AsString()] = true
		}
	}
	for state := limiter.State(0); !strings.Contains(state.String(), " "); state++ {
		if !named[state.String()] {
			t.Errorf("limiter.state has no %v", state)
		}
	}
}

func values(s snapshot) []int64 {
	var all []int64
	for _, f := range facts {
		all = append(all, f.value(s))
	}
	return all
}

// set gives a field a value that is not its zero.
func set(t *testing.T, field reflect.Value) {
	t.Helper()
	switch field.Interface().(type) {
	case int, limiter.State:
		field.SetInt(2)
	case uint64:
		field.SetUint(2)
	case time.Time:
		field.Set(reflect.ValueOf(time.Unix(2, 0)))
	default:
		t.Fatalf("a field of type %v: say here how to set it", field.Type())
	}
}
