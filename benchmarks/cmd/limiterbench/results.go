package main

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"golang.org/x/perf/benchfmt"
)

// series is one figure of one benchmark: "Allow/keys=1/by=limiter/callers=1" in "ns/op".
type series struct{ bench, unit string }

// results is all figures, a value for each turn, and the machine's description.
type results struct {
	values map[series][]float64
	config map[string]string
}

func newResults() *results {
	return &results{values: map[series][]float64{}, config: map[string]string{}}
}

// read adds the output of a benchmark run, and returns its number of benchmarks.
func (r *results) read(output []byte) (int, error) {
	in := benchfmt.NewReader(bytes.NewReader(output), "output")
	n := 0
	for in.Scan() {
		switch rec := in.Result().(type) {
		case *benchfmt.Result:
			r.add(rec)
			n++
		case *benchfmt.SyntaxError:
			return n, fmt.Errorf("limiterbench: %w", rec)
		}
	}
	return n, in.Err()
}

func (r *results) add(rec *benchfmt.Result) {
	for _, c := range rec.Config {
		r.config[c.Key] = string(c.Value)
	}
	name := string(rec.Name)
	if i := strings.LastIndexByte(name, '-'); i > strings.LastIndexByte(name, '/') {
		name = name[:i] // without GOMAXPROCS
	}
	for _, v := range rec.Values {
		value, unit := v.Value, v.Unit
		if v.OrigUnit != "" {
			value, unit = v.OrigValue, v.OrigUnit
		}
		s := series{name, unit}
		r.values[s] = append(r.values[s], value)
	}
}

// median returns the median of a figure, or NaN if there is none.
func (r *results) median(s series) float64 { return quantile(r.values[s], 0.5) }

// spread returns half the distance of the quartiles, as a part of the median.
func (r *results) spread(s series) float64 {
	v := r.values[s]
	return (quantile(v, 0.75) - quantile(v, 0.25)) / 2 / quantile(v, 0.5)
}

// quantile returns a quantile, interpolated between the two nearest values, or NaN if
// there is none.
func quantile(values []float64, share float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	v := slices.SortedFunc(slices.Values(values), cmp.Compare[float64])
	at := share * float64(len(v)-1)
	low := int(at)
	high := min(low+1, len(v)-1)
	return v[low] + (v[high]-v[low])*(at-float64(low))
}
