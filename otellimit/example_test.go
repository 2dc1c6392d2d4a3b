package otellimit_test

import (
	"context"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/attribute"
	sdk "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/trace"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/otellimit"
)

func ExampleRegister() {
	login, err := limiter.New(limiter.Config{Limit: limiter.Per(2, time.Hour)})
	if err != nil {
		panic(err)
	}
	defer login.Close()
	reader := sdk.NewManualReader() // a program has a PeriodicReader with an exporter
	registration, err := otellimit.Register(sdk.NewMeterProvider(sdk.WithReader(reader)), "login", login)
	if err != nil {
		panic(err)
	}
	defer func() { _ = registration.Unregister() }()

	for range 3 {
		login.Allow("user:42")
	}
	var collected metricdata.ResourceMetrics
	if err := reader.Collect(context.Background(), &collected); err != nil {
		panic(err)
	}
	for _, m := range collected.ScopeMetrics[0].Metrics {
		if sum, ok := m.Data.(metricdata.Sum[int64]); ok && m.Name == "limiter.decisions" {
			for _, p := range sum.DataPoints {
				result, _ := p.Attributes.Value("result")
				fmt.Println(m.Name, result.AsString(), p.Value, m.Unit)
			}
		}
	}
	// Unordered output:
	// limiter.decisions allowed 2 {decision}
	// limiter.decisions denied 1 {decision}
}

// attributesOf returns a decision as attributes of a span.
func attributesOf(r limiter.Result) []attribute.KeyValue {
	return []attribute.KeyValue{
		attribute.Bool("limiter.allowed", r.Allowed),
		attribute.String("limiter.limit", r.Limit.String()), // "100/m"
		attribute.Int("limiter.remaining", r.Remaining),
		attribute.Float64("limiter.retry_after", r.RetryAfter.Seconds()),
	}
}

// A decision as attributes of the span that is in the context.
func Example_span() {
	l, err := limiter.New(limiter.Config{Limit: limiter.Per(100, time.Minute)})
	if err != nil {
		panic(err)
	}
	defer l.Close()
	ctx, key := context.Background(), "user:42"
	trace.SpanFromContext(ctx).SetAttributes(attributesOf(l.Take(key))...)

	for _, a := range attributesOf(l.Take(key)) {
		fmt.Println(a.Key, a.Value.String())
	}
	// Output:
	// limiter.allowed true
	// limiter.limit 100/m
	// limiter.remaining 98
	// limiter.retry_after 0
}
