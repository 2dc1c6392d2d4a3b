package otellimit_test

import (
	"time"

	"go.opentelemetry.io/otel"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/otellimit"
)

// With the meter provider that a program has anyway.
func ExampleRegister_guide() {
	login, err := limiter.New(limiter.Config{Limit: limiter.Per(5, time.Minute)})
	if err != nil {
		panic(err)
	}
	registration, err := otellimit.Register(otel.GetMeterProvider(), "login", login)
	if err != nil {
		panic(err)
	}
	_ = registration.Unregister() // when the limiter is closed
	_ = login.Close()
}
