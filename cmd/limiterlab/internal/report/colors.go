package report

import "image/color"

// The colours of the lines are of Okabe and Ito, which the colour-blind can
// distinguish.
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
