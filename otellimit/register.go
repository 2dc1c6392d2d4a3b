package otellimit

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/seed-e56e777b/limiter"
)

// scope is the name of the instrumentation.
const scope = "github.com/seed-e56e777b/limiter/otellimit"

// series is a row of facts for one limiter.
type series struct {
	instrument metric.Int64Observable
	attributes metric.ObserveOption
	value      func(snapshot) int64
}

// Register registers the metrics of l with a provider, until the registration is
// unregistered. No other limiter of the provider may have the same name. Register fails
// if provider or l is nil, or if the provider returns an error.
func Register(provider metric.MeterProvider, name string, l *limiter.Limiter) (metric.Registration, error) {
	if provider == nil || l == nil {
		return nil, errors.New("otellimit: want a MeterProvider and a Limiter, not nil")
	}
	meter := provider.Meter(scope)
	rows, instruments, err := instrumented(meter, name)
	if err != nil {
		return nil, fmt.Errorf("otellimit: %w", err)
	}
	registration, err := meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		s := snapshot{Stats: l.Stats(), Status: l.Status()}
		for _, r := range rows {
			o.ObserveInt64(r.instrument, r.value(s), r.attributes)
		}
		return nil
	}, instruments...)
	if err != nil {
		return nil, fmt.Errorf("otellimit: %w", err)
	}
	return registration, nil
}

// instrumented returns the series of a limiter and their instruments.
func instrumented(meter metric.Meter, name string) (rows []series, instruments []metric.Observable, err error) {
	for _, f := range facts {
		instrument, err := f.instrument(meter)
		if err != nil {
			return nil, nil, err
		}
		attributes := append(slices.Clone(f.attributes), attribute.String("limiter", name))
		rows = append(rows, series{instrument, metric.WithAttributeSet(attribute.NewSet(attributes...)), f.value})
		instruments = append(instruments, instrument)
	}
	return rows, instruments, nil
}
