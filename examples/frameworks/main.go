// Frameworks serves the same limited application with chi or with gin.
//
//	go run . -with gin
//	curl -i localhost:8080/hello
package main

import (
	"flag"
	"log"
	"net/http"
	"time"

	"github.com/seed-e56e777b/limiter"
)

func main() {
	listen := flag.String("listen", "localhost:8080", "`address` to listen on")
	with := flag.String("with", "chi", "`framework`: chi or gin")
	flag.Parse()
	apps := map[string]func(*limiter.Limiter) http.Handler{"chi": withChi, "gin": withGin}
	app, ok := apps[*with]
	if !ok {
		log.Fatalf("-with %s: want chi or gin", *with)
	}
	l, err := limiter.New(limiter.Config{Limit: limiter.Per(5, 10*time.Second)})
	if err != nil {
		log.Fatal(err)
	}
	log.Print(http.ListenAndServe(*listen, app(l)))
}
