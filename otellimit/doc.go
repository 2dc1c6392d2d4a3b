// Package otellimit exposes to OpenTelemetry what a [limiter.Limiter] does and
// how it stands with Redis.
//
//	registration, err := otellimit.Register(otel.GetMeterProvider(), "login", login)
//
// All instruments are asynchronous: once per collection a callback reads
// [limiter.Limiter.Stats] and [limiter.Limiter.Status], and never waits for
// Redis. Every measurement has the attribute limiter with the name given, and
// none has one by key: there are too many keys, and they may be secrets.
// docs/metrics.md in the repository lists the metrics with their units and
// meanings.
//
// Exported to Prometheus, they have the names and labels of package promlimit,
// whose dashboard and alert rules then work with them.
//
// Only the API of OpenTelemetry is imported; the program chooses the SDK.
package otellimit
