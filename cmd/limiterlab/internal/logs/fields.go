package logs

import "slices"

// aliases are the usual names of fields in JSON and CSV; those of "" are for
// the time. The first one that a log has is used.
var aliases = map[string][]string{
	"":       {"time", "timestamp", "ts", "@timestamp", "datetime", "date", "time_local", "time_iso8601"},
	"ip":     {"ip", "client_ip", "remote_addr", "remote_ip", "clientip", "client", "remote_host"},
	"user":   {"user", "user_id", "remote_user", "username", "userid"},
	"method": {"method", "request_method", "http_method"},
	"path":   {"path", "uri", "request_uri", "url"},
	"host":   {"host", "http_host", "server_name", "vhost"},
}

// namedField is a field with its names in the options and in the log.
type namedField struct {
	asked string // name in the options; empty for the time by its usual names
	name  string // name in the log
}

// findField returns the field that a name in the options means, among the
// fields that the log has.
func findField(asked string, has []string) (namedField, error) {
	for _, name := range append([]string{asked}, aliases[asked]...) {
		if name != "" && slices.Contains(has, name) {
			return namedField{asked, name}, nil
		}
	}
	return namedField{}, &FieldError{asked, has}
}

// findFields returns the fields that hold the time and the parts of the key.
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

// value returns a raw value as a part of the key: an ip as its network, a path
// without its query.
func (f namedField) value(raw []byte) []byte {
	switch f.asked {
	case "ip":
		return network(raw)
	case "path":
		return withoutQuery(raw)
	}
	return raw
}
