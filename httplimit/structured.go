package httplimit

import (
	"strconv"
	"strings"
)

// structured is the rest of a Structured Field of RFC 9651 that is being parsed. Its
// methods report false for malformed text. Inner Lists are not supported, because no
// field that is read here has any.
type structured struct{ rest string }

// member is a member of a List or Dictionary, with its parameters.
type member struct {
	key    string // of a Dictionary
	value  bareItem
	params []param
}

// param is a parameter of a member.
type param struct {
	name  string
	value bareItem
}

// bareItem is a value without parameters.
type bareItem struct {
	kind    itemKind
	text    string // of a String or a Token
	integer int64  // of an Integer
}

type itemKind int8

const (
	otherItem   itemKind = iota // Decimal, Byte Sequence, Boolean, Date, Display String
	integerItem                 // at most 15 digits
	stringItem
	tokenItem
)

// maxDigits is the largest number of digits of an Integer.
const maxDigits = 15

// integerOf returns the parameter of a name, if it is an Integer of 0 or more. Of
// several parameters of a name the last one counts.
func (m *member) integerOf(name string) (n int64, ok bool) {
	for _, p := range m.params {
		if p.name == name {
			n, ok = p.value.integer, p.value.kind == integerItem && p.value.integer >= 0
		}
	}
	return n, ok
}

// textOf returns the String of a name, if there is one.
func (m *member) textOf(name string) (text string) {
	for _, p := range m.params {
		if p.name == name {
			text = p.value.text
		}
	}
	return text
}

// parseList parses the lines of a List field.
func parseList(lines []string) ([]member, bool) {
	return parseMembers(lines, func(s *structured) (m member, ok bool) {
		if m.value, ok = s.bareItem(); !ok {
			return m, false
		}
		m.params, ok = s.params()
		return m, ok
	})
}

// parseDictionary parses the lines of a Dictionary field.
func parseDictionary(lines []string) ([]member, bool) {
	return parseMembers(lines, func(s *structured) (m member, ok bool) {
		if m.key, ok = s.key(); !ok {
			return m, false
		}
		if s.accept('=') {
			if m.value, ok = s.bareItem(); !ok {
				return m, false
			}
		}
		m.params, ok = s.params()
		return m, ok
	})
}

// parseMembers parses members between commas. Lines of a field are one text.
func parseMembers(lines []string, parse func(*structured) (member, bool)) (members []member, ok bool) {
	s := &structured{strings.Trim(strings.Join(lines, ","), " ")}
	for s.rest != "" {
		m, ok := parse(s)
		if !ok {
			return nil, false
		}
		members = append(members, m)
		s.rest = strings.TrimLeft(s.rest, " \t")
		if s.rest == "" {
			break
		}
		if !s.accept(',') {
			return nil, false
		}
		if s.rest = strings.TrimLeft(s.rest, " \t"); s.rest == "" {
			return nil, false // a comma at the end
		}
	}
	return members, true
}

// accept takes a character, if it is next.
func (s *structured) accept(c byte) bool {
	if s.rest == "" || s.rest[0] != c {
		return false
	}
	s.rest = s.rest[1:]
	return true
}

// span takes the characters that belong to a set.
func (s *structured) span(in func(byte) bool) string {
	n := 0
	for n < len(s.rest) && in(s.rest[n]) {
		n++
	}
	taken := s.rest[:n]
	s.rest = s.rest[n:]
	return taken
}

// key parses the name of a parameter or a member of a Dictionary.
func (s *structured) key() (string, bool) {
	if s.rest == "" || s.rest[0] != '*' && !isLower(s.rest[0]) {
		return "", false
	}
	return s.span(func(c byte) bool { return isLower(c) || isDigit(c) || strings.IndexByte("_-.*", c) >= 0 }), true
}

// params parses the parameters that follow a value.
func (s *structured) params() (params []param, ok bool) {
	for s.accept(';') {
		s.rest = strings.TrimLeft(s.rest, " ")
		var p param
		if p.name, ok = s.key(); !ok {
			return nil, false
		}
		if s.accept('=') {
			if p.value, ok = s.bareItem(); !ok {
				return nil, false
			}
		}
		params = append(params, p)
	}
	return params, true
}

// bareItem parses a value.
func (s *structured) bareItem() (bareItem, bool) {
	if s.rest == "" {
		return bareItem{}, false
	}
	switch c := s.rest[0]; {
	case c == '"':
		return s.quoted()
	case c == '-' || isDigit(c):
		return s.number()
	case c == '*' || isLower(c|0x20): // a letter of either case
		return bareItem{kind: tokenItem, text: s.span(isTokenByte)}, true
	case c == '@':
		s.rest = s.rest[1:]
		n, ok := s.number()
		return bareItem{}, ok && n.kind == integerItem
	case c == '?':
		s.rest = s.rest[1:]
		return bareItem{}, s.accept('0') || s.accept('1')
	case c == ':':
		s.rest = s.rest[1:]
		s.span(func(c byte) bool { return isLower(c|0x20) || isDigit(c) || strings.IndexByte("+/=", c) >= 0 })
		return bareItem{}, s.accept(':')
	case strings.HasPrefix(s.rest, `%"`):
		s.rest = s.rest[2:]
		s.span(func(c byte) bool { return c >= ' ' && c <= '~' && c != '"' })
		return bareItem{}, s.accept('"')
	}
	return bareItem{}, false
}

// number parses an Integer or a Decimal.
func (s *structured) number() (bareItem, bool) {
	negative := s.accept('-')
	digits := s.span(isDigit)
	if digits == "" || len(digits) > maxDigits {
		return bareItem{}, false
	}
	if s.accept('.') {
		fraction := s.span(isDigit)
		return bareItem{}, fraction != "" && len(fraction) <= 3 && len(digits) <= 12
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if negative {
		n = -n
	}
	return bareItem{kind: integerItem, integer: n}, err == nil
}

// quoted parses a String.
func (s *structured) quoted() (bareItem, bool) {
	var text strings.Builder
	for i := 1; i < len(s.rest); i++ {
		switch c := s.rest[i]; {
		case c == '"':
			s.rest = s.rest[i+1:]
			return bareItem{kind: stringItem, text: text.String()}, true
		case c < ' ' || c > '~':
			return bareItem{}, false
		case c != '\\':
			text.WriteByte(c)
		default:
			i++
			if i == len(s.rest) || s.rest[i] != '"' && s.rest[i] != '\\' {
				return bareItem{}, false
			}
			text.WriteByte(s.rest[i])
		}
	}
	return bareItem{}, false
}

func isLower(c byte) bool { return c >= 'a' && c <= 'z' }

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// isTokenByte reports whether a Token may contain c.
func isTokenByte(c byte) bool {
	return isLower(c|0x20) || isDigit(c) || strings.IndexByte("!#$%&'*+-.^_`|~:/", c) >= 0
}
