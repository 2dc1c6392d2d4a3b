# `make help` lists the targets. Each except `help` may fetch modules; `lint` and `fmt`
# build their tools, pinned in tools/go.mod.

# Each module by itself, with the versions of its own go.mod. go.work is for the
# command line.
export GOWORK = off

LINT = go tool -modfile="$$root/tools/go.mod" golangci-lint

# The folders of the modules of this repository, tools/ apart.
MODULES = find . -name go.mod ! -path './tools/*' ! -path './.*' ! -path '*/testdata/*' -exec dirname {} ';' | sort

.PHONY: help demo test test-long accuracy faults soak bench lint fmt servers browser modules

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-9s %s\n", $$1, $$2 }' Makefile

demo: ## run the lab: a fleet through an outage of Redis (ARGS="-h" for its flags)
	GOWORK= go run ./cmd/limiterlab $(ARGS)

test: ## test every module with the race detector, in 4 minutes, 7 on busy cores (ARGS=-short: in 2 to 85 s)
	@sh tools/test.sh -timeout=15m $(ARGS)

test-long: servers browser ## the same at length: properties, soaks, whole matrices; nightly
	@LIMITER_LONG=1 sh tools/test.sh $(ARGS)

accuracy: ## run every fleet of docs/accuracy.md under virtual time, and write that page and its charts
	cd internal/fleetsim && go test -run '^TestAccuracy$$' -timeout 60m . -accuracy ../../docs

faults: servers ## do to real Redis servers whatever can happen to one; writes docs/faults.md in about 15 minutes
	cd cmd/limiterfaults && go run . -long -o ../../docs/faults.md

soak: servers ## keep a fleet busy for ten minutes in front of a Redis that is killed and frozen (SOAK=10m)
	go test -run '^TestSoak$$' -v -timeout 0 ./internal/servertest/suite -soak $(or $(SOAK),10m)

bench: servers ## measure limiter beside its peers, in turns; writes docs/benchmarks.md in 12 to 18 minutes (ARGS="-quick -o /tmp" to try)
	cd benchmarks && go run ./cmd/limiterbench -o ../docs $(ARGS)

lint: ## check every module with golangci-lint
	@root=$$PWD; for m in $$($(MODULES)); do \
		echo "--- golangci-lint run in $$m"; \
		(cd "$$m" && $(LINT) run ./...) || exit 1; \
	done

fmt: ## format the code with gofumpt and goimports
	@root=$$PWD; $(LINT) fmt

servers: ## install redis-server, redis-sentinel and prometheus where they are missing (Debian and its kin)
	@sh tools/ensure-packages.sh redis-server redis-sentinel prometheus

browser: ## install chromium and chromedriver where they are missing (likewise)
	@command -v chromedriver >/dev/null || sh tools/ensure-packages.sh chromium chromium-driver

modules: ## print the folders of all modules but tools/
	@$(MODULES)
