package main

import (
	"os"
	"testing"

	"github.com/redis/go-redis/v9/logging"

	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/worker"
)

// TestMain lets this program be a worker of a fleet, as the lab is.
func TestMain(m *testing.M) {
	logging.Disable()
	if len(os.Args) > 1 && os.Args[1] == worker.Command {
		main()
	}
	m.Run()
}
