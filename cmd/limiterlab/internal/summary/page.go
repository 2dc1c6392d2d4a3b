package summary

// Page is a stub.
func Page(s Summary) ([]byte, error) { return nil, nil }
