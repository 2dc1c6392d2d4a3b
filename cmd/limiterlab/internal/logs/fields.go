package logs

import "slices"

// aliases are the names that a field often has in JSON and CSV; the first that
// a log has is taken.
var aliases = map[string][]string{
	"":       {"time", "timestamp", "ts", "@timestamp", "datetime", "date", "time_local", "time_iso8601"},
	"ip":     {"ip", "client_ip", "remote_addr", "remote_ip", "clientip", "client", "remote_host"},
	"user":   {"user", "user_id", "remote_user", "username", "userid"},
	"method": {"method", "request_method", "http_method"},
	"path":   {"path", "uri", "request_uri", "url"},
	"host":   {"host", "http_host", "server_name", "vhost"},
}

// namedField is a field as a log calls it.
type namedField struct {
	asked string // as the user calls it; empty: the time
	name  string // as the log does
}

// findField returns the field that is meant by a name among those that a log has.
func findField(asked string, has []string) (namedField, error) {
	for _, name := range append([]string{asked}, aliases[asked]...) {
		if name != "" && slices.Contains(has, name) {
			return namedField{asked, name}, nil
		}
	}
	return namedField{}, &FieldError{asked, has}
}

// findFields returns the fields of the time and of the key.
func findFields(o Options, has []string) (at namedField, key []namedField, err error) {
	if at, err = findField(o.TimeField, has); err != nil {
		return at, nil, err
	}
	for _, part := range o.Key.parts {
		f, err := findField(part, has)
		if err != nil {
			return at, nil, err
		}
		key = append(key, f)
	}
	return at, key, nil
}

// value is the field's value as a part of a key.
func (f namedField) value(raw []byte) []byte {
	switch f.asked {
	case "ip":
		return network(raw)
	case "path":
		return withoutQuery(raw)
	}
	return raw
}
