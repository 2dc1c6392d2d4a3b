// Tokens limits what tenants use of a language model, whose cost is known only
// when it has answered.
//
//	go run ./examples/tokens
//
// Look at ask: it takes an estimate before the call, and settles the
// difference after it; a call that failed has used nothing and gets all back.
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

// model answers a prompt, and says how many tokens that took, also where it
// failed.
type model func(ctx context.Context, prompt string) (answer string, used int, err error)

// maxAnswer is the longest answer, in tokens, that the model is asked for.
const maxAnswer = 1000

// ask sends a prompt when the tenant has the tokens that it may take.
func ask(ctx context.Context, l *limiter.Limiter, tenant, prompt string, m model) (string, error) {
	estimate := len(prompt)/4 + maxAnswer
	if err := l.WaitN(ctx, tenant, estimate); err != nil {
		return "", err
	}
	answer, used, err := m(ctx, prompt)
	l.Charge(tenant, used-estimate) // does nothing below 1
	l.Refund(tenant, estimate-used) // likewise; all of it where nothing was used
	return answer, err
}

// pretend is a model of few words, and of more than it was asked for.
func pretend(_ context.Context, prompt string) (string, int, error) {
	switch prompt {
	case "fail":
		return "", 0, errors.New("the model is overloaded")
	case "long":
		return "once upon a time …", 3500, nil
	}
	return "yes", 200, nil
}
