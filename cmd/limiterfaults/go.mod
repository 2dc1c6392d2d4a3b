module github.com/seed-e56e777b/limiter/cmd/limiterfaults

go 1.26.0

require (
	github.com/redis/go-redis/v9 v9.23.0
	github.com/seed-e56e777b/limiter v0.0.0
)

require (
	github.com/cespare/xxhash/v2 v2.3.0 // indirect
	github.com/hashicorp/golang-lru/v2 v2.0.7 // indirect
	go.uber.org/atomic v1.12.0 // indirect
	golang.org/x/sys v0.48.0 // indirect
	golang.org/x/time v0.16.0 // indirect
)

replace github.com/seed-e56e777b/limiter => ../../
