// Tokens limits the use of a language model by tenants, whose cost is known only after
// the answer.
//
//	go run ./examples/tokens
//
// Look at ask: it takes an estimate before the call, and settles it after the call, which
// charges or refunds the difference. A failed call has used nothing, and gets all back.
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
	for _, prompt := range []string{"short", "long", "fail", strings.Repeat("all of Proust. ", 3000)} {
		answer, err := ask(context.Background(), l, "tenant:7", prompt, pretend)
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
	most := len(prompt)/4 + maxAnswer
	estimate, res := l.Estimate(tenant, most)
	if !res.Allowed {
		return "", fmt.Errorf("over the limit: %d tokens of %d", most, res.Remaining)
	}
	answer, used, err := m(ctx, prompt)
	estimate.Settle(used)
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
