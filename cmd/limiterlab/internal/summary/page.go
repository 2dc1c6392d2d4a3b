package summary

import (
	"bytes"
	_ "embed"
	"html/template"
	"strings"
	"time"

	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/report"
)

//go:embed page.html
var pageHTML string

var pageTemplate = template.Must(template.New("page").Parse(pageHTML))

// page is the data of the template, which escapes all of it.
type page struct {
	Limit, Key, Source, Span string
	Facts                    []fact
	Over                     chart
	TopTitle                 string
	Top                      []topRow
	Suggestion               *words
	Outage, Fleet            *section
	Notes                    []string
}

type topRow struct{ Name, Denied, First, Last string }

// words are sentences under a title.
type words struct {
	Title string
	Said  []string
}

// section is a table under a title, with a chart or without.
type section struct {
	Title string
	Chart chart
	Table table
}

type table struct {
	Head []string
	Rows []row
}

type row struct {
	Name  string
	Cells []cell
}

type cell struct{ Value, Note string }

// Page returns the summary as a page that loads nothing else.
func Page(s Summary) ([]byte, error) {
	p := page{
		Limit: s.Limit.String(), Key: s.Key, Source: s.source(), Span: s.span(),
		Facts: s.facts(), Over: s.overChart(), TopTitle: s.topTitle(), Top: s.topRows(),
		Outage: s.outageSection(), Fleet: s.fleetSection(),
	}
	p.Facts[0].Note = "" // stated above
	if s.Suggestion != nil {
		p.Suggestion = &words{suggestionTitle(s.Suggestion), suggestion(s.Suggestion)}
	}
	for _, n := range append(s.Doubts(), s.notes()...) {
		p.Notes = append(p.Notes, strings.TrimSpace(n))
	}
	var b bytes.Buffer
	err := pageTemplate.Execute(&b, p)
	return b.Bytes(), err
}

func (s Summary) topRows() []topRow {
	var rows []topRow
	for _, k := range s.Top {
		rows = append(rows, topRow{printable(k.Name), report.Thousands(k.Denied), s.short(k.First), s.short(k.Last)})
	}
	return rows
}

// short writes a time, without the date if all times have the same one.
func (s Summary) short(t time.Time) string {
	if s.From.Format(time.DateOnly) == s.To.Format(time.DateOnly) {
		return t.Format(timeOfDay)
	}
	return t.Format(dateAndTime)
}

func (s Summary) fleetSection() *section {
	f := s.Fleet
	if f == nil {
		return nil
	}
	t := table{Head: []string{"", "admitted", "of requests", "of central"}}
	for _, o := range f.Outcomes {
		t.Rows = append(t.Rows, row{o.Name, []cell{
			{Value: report.Thousands(o.Allowed)},
			{Value: percent(o.Allowed, s.Requests)},
			{Value: report.Ratio(o.Allowed, s.Allowed())},
		}})
	}
	return &section{Title: s.fleetTitle(), Table: t}
}

func (s Summary) outageSection() *section {
	o := s.Outage
	if o == nil {
		return nil
	}
	t := table{Head: []string{"admitted, and of central", "before", "outage", "after", "whole log"}}
	central := o.Policies[1]
	for _, p := range o.Policies {
		r := row{Name: p.Name}
		for i, n := range p.PerPhase {
			r.Cells = append(r.Cells, cell{report.Thousands(n), report.Ratio(n, central.PerPhase[i])})
		}
		r.Cells = append(r.Cells, cell{report.Thousands(p.Total()), report.Ratio(p.Total(), central.Total())})
		t.Rows = append(t.Rows, r)
	}
	return &section{Title: s.outageTitle(), Chart: s.outageChart(), Table: t}
}
