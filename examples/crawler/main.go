// Crawler fetches pages, many hosts at once and each host politely.
//
//	go run ./examples/crawler https://go.dev https://go.dev/doc https://pkg.go.dev
//
// Look at polite: the key is the host, so that a slow or busy host delays only its own
// pages, and a redirect waits as a page does. With Config.Redis the limit is that of
// all crawlers together. LimitFor can give a host the limit of its robots.txt.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/seed-e56e777b/limiter"
)

const maxRedirects = 10

func main() {
	l, err := limiter.New(limiter.Config{Limit: limiter.Limit{Rate: 1, Burst: 1}})
	if err != nil {
		log.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	begin := time.Now()
	crawl(ctx, l, &http.Client{}, os.Args[1:], func(page, outcome string) {
		fmt.Printf("%4.1f s  %s: %s\n", time.Since(begin).Seconds(), page, outcome)
	})
}

// polite waits until the limit of a request's host admits it.
func polite(ctx context.Context, l *limiter.Limiter, u *url.URL) error {
	return l.Wait(ctx, strings.ToLower(u.Hostname()))
}

// crawl fetches all pages, and writes the result of each, one at a time.
func crawl(ctx context.Context, l *limiter.Limiter, client *http.Client, pages []string, tell func(page, outcome string)) {
	client.CheckRedirect = func(req *http.Request, via []*http.Request) error {
		if len(via) == maxRedirects {
			return errors.New("too many redirects")
		}
		return polite(req.Context(), l, req.URL)
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, page := range pages {
		wg.Go(func() {
			outcome := fetch(ctx, l, client, page)
			mu.Lock()
			defer mu.Unlock()
			tell(page, outcome)
		})
	}
	wg.Wait()
}

func fetch(ctx context.Context, l *limiter.Limiter, client *http.Client, page string) string {
	u, err := url.Parse(page)
	if err != nil {
		return err.Error()
	}
	if err := polite(ctx, l, u); err != nil {
		return err.Error()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, page, http.NoBody)
	if err != nil {
		return err.Error()
	}
	resp, err := client.Do(req)
	if err != nil {
		return err.Error()
	}
	_ = resp.Body.Close()
	return resp.Status
}
