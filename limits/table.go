package limits

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/seed-e56e777b/limiter"
)

// Rule is a rule of a [Source].
type Rule struct {
	Pattern string // a key, or the beginning of keys and a *
	Limit   string // for ParseLimit, maybe with the word shadow after it
	Place   string // position in the source, for messages: "limits.json:3"
}

// ruling is the limit and the mode of a rule.
type ruling struct {
	limit  limiter.Limit
	shadow bool
}

// table is a set of rules for looking up keys. It never changes.
type table struct {
	keys       map[string]ruling // by whole key
	beginnings map[string]ruling // by beginning, without the *
	lengths    []int             // of beginnings, longest first; 0 is always among them
}

// newTable returns the table of rules, or all their errors.
func newTable(rules []Rule) (*table, error) {
	t := &table{keys: map[string]ruling{}, beginnings: map[string]ruling{}}
	var faults []error
	for _, r := range rules {
		if err := t.add(r); err != nil {
			faults = append(faults, fmt.Errorf("limits: %s: %q: %w", r.Place, r.Pattern, err))
		}
	}
	if _, ok := t.beginnings[""]; !ok && len(faults) == 0 {
		faults = append(faults, noDefault(rules))
	}
	for b := range t.beginnings {
		t.lengths = append(t.lengths, len(b))
	}
	slices.Sort(t.lengths)
	slices.Reverse(t.lengths)
	t.lengths = slices.Compact(t.lengths)
	return t, errors.Join(faults...)
}

// noDefault returns the error of rules without the pattern *, at the last rule.
func noDefault(rules []Rule) error {
	if len(rules) == 0 {
		return errors.New(`limits: no limit for "*", and no other rule`)
	}
	return fmt.Errorf(`limits: %s: no limit for "*", all other keys`, rules[len(rules)-1].Place)
}

func (t *table) add(r Rule) error {
	says, err := parse(r.Limit)
	if err != nil {
		return err
	}
	pattern, in := r.Pattern, t.keys
	if beginning, ok := strings.CutSuffix(pattern, "*"); ok {
		pattern, in = beginning, t.beginnings
	}
	if strings.Contains(pattern, "*") {
		return errors.New("a * may stand only at the end")
	}
	if _, ok := in[pattern]; ok {
		return errors.New("stands there twice")
	}
	in[pattern] = says
	return nil
}

func parse(s string) (r ruling, err error) {
	words := strings.Fields(s)
	if n := len(words) - 1; n > 0 && words[n] == "shadow" {
		r.shadow = true
		s = strings.Join(words[:n], " ")
	}
	r.limit, err = limiter.ParseLimit(s)
	return r, err
}

// of returns the ruling of a key.
func (t *table) of(key string) ruling {
	if r, ok := t.keys[key]; ok {
		return r
	}
	for _, n := range t.lengths {
		if n <= len(key) {
			if r, ok := t.beginnings[key[:n]]; ok {
				return r
			}
		}
	}
	return ruling{} // not reached: the empty beginning fits
}
