package report

import (
	"fmt"
	"image/color"
	"strings"
)

// Colours of a chart. Those of its lines are by Okabe and Ito; colour-blind readers
// can distinguish them.
var (
	blue       = color.RGBA{R: 0x00, G: 0x72, B: 0xb2, A: 0xff}
	vermillion = color.RGBA{R: 0xd5, G: 0x5e, B: 0x00, A: 0xff}
	purple     = color.RGBA{R: 0xcc, G: 0x79, B: 0xa7, A: 0xff}
	green      = color.RGBA{R: 0x00, G: 0x9e, B: 0x73, A: 0xff}

	white     = color.Gray{Y: 255}
	ink       = color.Gray{Y: 40}
	gridGray  = color.Gray{Y: 225}
	shade     = color.Gray{Y: 238}
	limitGray = color.Gray{Y: 120}
)

// onDark maps the colours of a chart to those on a dark page. Colours that it
// lacks stay the same. The background is GitHub's.
var onDark = []struct{ light, dark color.Color }{
	{white, color.RGBA{R: 0x0d, G: 0x11, B: 0x17, A: 0xff}},
	{ink, color.Gray{Y: 215}},
	{color.Black, color.Gray{Y: 150}}, // the axes
	{gridGray, color.Gray{Y: 60}},
	{shade, color.Gray{Y: 38}},
	{limitGray, color.Gray{Y: 150}},
	{blue, color.RGBA{R: 0x56, G: 0xb4, B: 0xe9, A: 0xff}},
}

// darkStyle returns a style sheet that replaces the colours of an SVG if the
// reader prefers a dark page. It finds the colours in the text of the style
// attributes.
func darkStyle() string {
	var css strings.Builder
	css.WriteString("<style>@media (prefers-color-scheme: dark) {\n")
	for _, c := range onDark {
		for _, property := range []string{"fill", "stroke"} {
			fmt.Fprintf(&css, "[style*=\"%[1]s:%[2]s\"] { %[1]s: %[3]s !important }\n", property, hex(c.light), hex(c.dark))
		}
	}
	css.WriteString("}</style>\n")
	return css.String()
}

// hex returns a colour as an SVG writes it, such as #0072B2.
func hex(c color.Color) string {
	const byByte = 8
	r, g, b, _ := c.RGBA()
	return fmt.Sprintf("#%02X%02X%02X", r>>byByte, g>>byByte, b>>byByte)
}
