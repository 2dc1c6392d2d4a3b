package otellimit

import "go.opentelemetry.io/otel/metric"

// kind is what the numbers of a metric are, and so which instrument it has.
type kind int8

const (
	counter kind = iota // only grows
	level               // goes up and down, and means something summed over processes
	gauge               // goes up and down, and does not
)

// instrument returns the one of a fact. Asked again for the same name, a meter
// returns the same.
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
