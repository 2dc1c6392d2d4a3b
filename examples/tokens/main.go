// Tokens limits the use of a language model by tenants, whose cost is known only after
// the answer.
//
//	go run ./examples/tokens
//
// Look at ask: it takes an estimate before the call, and charges or refunds the
// difference after it. A failed call has used nothing, and gets all back.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"strings"
	"time"

	"github.com/seed-e56e777b/limiter"
)

func main() {
	l, err := limiter.New(limiter.Config{Limit: limiter.Per(10_000, time.Minute)})
	if err != nil {
		log.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for _, prompt := range []string{"short", "long", "fail", strings.Repeat("all of Proust. ", 3000)} {
		answer, err := ask(ctx, l, "tenant:7", prompt, pretend)
		if err != nil {
			answer = err.Error()
		}
		fmt.Printf("%-14.14s  %5d left  %s\n", prompt, l.Peek("tenant:7").Remaining, answer)
	}
}

// model answers a prompt, and returns the number of tokens used, also after an error.
type model func(ctx context.Context, prompt string) (answer string, used int, err error)

// maxAnswer is the length of the longest answer requested, in tokens.
const maxAnswer = 1000

// ask sends a prompt if the tenant has the tokens for it.
func ask(ctx context.Context, l *limiter.Limiter, tenant, prompt string, m model) (string, error) {
	estimate := len(prompt)/4 + maxAnswer
	if err := l.WaitN(ctx, tenant, estimate); err != nil {
		return "", err
	}
	answer, used, err := m(ctx, prompt)
	l.Charge(tenant, used-estimate) // does nothing below 1
	l.Refund(tenant, estimate-used) // likewise; all of it if nothing was used
	return answer, err
}

// pretend is a model with short answers, some of them longer than requested.
func pretend(_ context.Context, prompt string) (string, int, error) {
	switch prompt {
	case "fail":
		return "", 0, errors.New("the model is overloaded")
	case "long":
		return "once upon a time …", 3500, nil
	}
	return "yes", 200, nil
}
