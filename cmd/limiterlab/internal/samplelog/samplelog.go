// Package samplelog makes access logs for tests and measurements.
package samplelog

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"time"
)

// Options describe a log.
type Options struct {
	Lines     int
	Clients   uint64  // addresses: few with many requests, many with few
	PerSecond float64 // requests of all, on average
	Seed      uint64
}

var (
	begin  = time.Date(2026, 3, 14, 13, 50, 0, 0, time.FixedZone("", 3600))
	paths  = []string{"/", "/login", "/api/items?page=2", "/api/items/42", "/static/app.js", "/search?q=a+b"}
	agents = []string{"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", "curl/8.14.1", "Go-http-client/2.0"}
)

// Write writes a log in combined format.
func Write(w io.Writer, o Options) error {
	out := bufio.NewWriterSize(w, 1<<20)
	random := rand.New(rand.NewPCG(o.Seed, 0))
	client := rand.NewZipf(random, 1.2, 8, o.Clients-1)
	at := begin
	for range o.Lines {
		at = at.Add(time.Duration(random.ExpFloat64() / o.PerSecond * 1e9))
		path := paths[random.IntN(len(paths))]
		fmt.Fprintf(out, "%s - - [%s] \"GET %s HTTP/1.1\" 200 %d \"-\" %q\n",
			address(client.Uint64()), at.Format("02/Jan/2006:15:04:05 -0700"), path, 200+random.IntN(9000), agents[random.IntN(len(agents))])
	}
	return out.Flush()
}

// address returns the address of the i-th client, spread over the private networks 10/8.
func address(i uint64) string {
	i = i * 0x9e3779b1 % (1 << 24)
	return fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255)
}
