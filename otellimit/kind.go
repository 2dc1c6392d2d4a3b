package otellimit

import "go.opentelemetry.io/otel/metric"

// kind is the kind of a metric's values, which selects its instrument.
type kind int8

const (
	counter kind = iota // only grows
	level               // goes up and down, and can be summed over processes
	gauge               // goes up and down, and can't be summed
)

// instrument returns the instrument of a fact. A meter returns the same one for the
// same name.
func (f fact) instrument(meter metric.Meter) (metric.Int64Observable, error) {
	description, unit := metric.WithDescription(f.help), metric.WithUnit(f.unit)
	switch f.kind {
	case counter:
		return meter.Int64ObservableCounter(f.name, description, unit)
	case level:
		return meter.Int64ObservableUpDownCounter(f.name, description, unit)
	default:
		return meter.Int64ObservableGauge(f.name, description, unit)
	}
}
