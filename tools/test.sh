#!/bin/sh
# Tests every module with the race detector, and goes on after one that fails:
#
#	sh tools/test.sh [flags of go test]
#
# It prints each module with its time as it ends, and fails at the end where any
# did. LIMITER_LONG=1 makes the tests run at length. With -short, packages of which
# nothing has changed are not tested again, and tests run in their order.
#
# The main module shows its packages as they end. Beside it run internal/fleetsim,
# which takes longest, on one core, and the others, one after the other and package
# by package, because most tests that use a Redis wait more than they compute. At
# length all modules run one after the other. `go vet` is a gate of its own in .ci/run.
set -u
export GOWORK=off # each module by itself

cd "$(dirname "$0")/.." || exit 1
modules=$(make -s modules)
count=$(echo "$modules" | wc -l)
begin=$(date +%s)
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
trap 'touch "$work/stop"; wait; exit 130' INT TERM

flags='-race -vet=off'
lasts='4 minutes'
case " $* " in
*' -short '*) lasts='2 to 85 seconds, in a shorter form,' ;;
*) flags="$flags -shuffle=on -count=1" ;;
esac
if [ -n "${LIMITER_LONG:-}" ]; then
	echo "Testing $count modules at length with the race detector: about 15 minutes on two idle cores."
	set -- -timeout=90m "$@"
else
	echo "Testing $count modules with the race detector: $lasts on two idle cores, up to twice as long on busy ones; more on a first run, which compiles everything."
	# The race detector would wait a second at the end of every package for a late race.
	export GORACE="atexit_sleep_ms=0 ${GORACE:-}"
fi
[ -n "${LIMITER_REDIS_SERVER:-}" ] || sh tools/ensure-packages.sh redis-server

# test_module tests one module with some flags of go test.
test_module() {
	module=$1
	shift
	start=$(date +%s)
	# shellcheck disable=SC2086 # the flags are words
	if (cd "$module" && go test $flags "$@" ./...); then
		verdict=ok
	else
		verdict=FAILED
		echo "$module" >>"$work/failed"
	fi
	echo "--- $verdict: $module in $(($(date +%s) - start)) s"
}

# test_each tests the modules of a list, one after the other, and prints the output of
# each as it ends.
test_each() {
	list=$1
	output=$(mktemp "$work/output.XXXXXX")
	shift
	for module in $list; do
		if [ ! -e "$work/stop" ]; then
			test_module "$module" "$@" >"$output" 2>&1
			cat "$output"
		fi
	done
}

longest=./internal/fleetsim
others=$(echo "$modules" | grep -vxF -e . -e "$longest")
if [ -n "${LIMITER_LONG:-}" ]; then
	test_module . "$@"
	test_each "$longest" "$@" -skip='^TestAccuracy$'
	# All scenarios of docs/accuracy.md, without the race detector, under which they had
	# not ended after 55 minutes. The same code runs under it in the other tests.
	(flags='-vet=off -count=1' && test_each "$longest" "$@" -run='^TestAccuracy$')
	test_each "$others" "$@"
else
	test_each "$longest" "$@" &
	test_each "$others" -p=1 "$@" &
	test_module . "$@"
	wait
fi
echo "Tested $count modules in $(($(date +%s) - begin)) s."
if [ -e "$work/failed" ]; then
	echo "FAILED:" $(cat "$work/failed") >&2
	exit 1
fi
