// Package otellimit exports the metrics of a [limiter.Limiter] to OpenTelemetry: its
// decisions, and its state towards Redis.
//
//	registration, err := otellimit.Register(otel.GetMeterProvider(), "login", login)
//
// All instruments are asynchronous: once per collection a callback reads
// [limiter.Limiter.Stats] and [limiter.Limiter.Status], without waiting for Redis.
// Every measurement has the attribute limiter, with the name of the limiter. None has
// an attribute of a key, because keys are many, and may be secrets. docs/metrics.md in
// the repository lists the metrics with their units and meanings.
//
// Exported to Prometheus, they have the names and labels of package promlimit, and
// work with its dashboard and alert rules.
//
// The package imports only the API of OpenTelemetry; the program chooses the SDK.
package otellimit
