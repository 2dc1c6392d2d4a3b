#!/bin/sh
# Tests every module with the race detector, and goes on after one that fails:
#
#	sh tools/test.sh [flags of go test]
#
# It prints each module with its time as it ends, and fails at the end where any
# did. LIMITER_LONG=1 makes the tests run at length. With -short, packages of which
# nothing has changed are not tested again, and tests run in their order.
#
# The main module shows its packages as they end. The others run beside it, one
# after the other, because most tests that use a Redis wait more than they compute;
# at length all run one after the other. `go vet` is a gate of its own in .ci/run.
set -u

cd "$(dirname "$0")/.." || exit 1
modules=$(make -s modules)
count=$(echo "$modules" | wc -l)
begin=$(date +%s)
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
trap 'touch "$work/stop"; wait; exit 130' INT TERM

flags='-race -vet=off'
lasts='about 5 minutes'
case " $* " in
*' -short '*) lasts='seconds to two minutes, in a shorter form' ;;
*) flags="$flags -shuffle=on -count=1" ;;
esac
if [ -n "${LIMITER_LONG:-}" ]; then
	echo "Testing $count modules at length with the race detector: 30 to 60 minutes on two idle cores, by estimate."
	set -- -timeout=90m "$@"
else
	echo "Testing $count modules with the race detector: $lasts, on two idle cores; more on a first run, which compiles everything."
	# The race detector would wait a second at the end of every package for a late race.
	export GORACE="atexit_sleep_ms=0 ${GORACE:-}"
fi
[ -n "${LIMITER_REDIS_SERVER:-}" ] || sh tools/ensure-packages.sh redis-server

# test_module tests one module with some flags of go test.
test_module() {
	module=$1
	shift
	first=
	if [ "$module" = . ]; then
		first=./internal/fleetsim # takes longest, on one core: others run beside it
	fi
	start=$(date +%s)
	# shellcheck disable=SC2086 # the flags are words
	if (cd "$module" && go test $flags "$@" $first ./...); then
		verdict=ok
	else
		verdict=FAILED
		echo "$module" >>"$work/failed"
	fi
	echo "--- $verdict: $module in $(($(date +%s) - start)) s"
}

# test_others tests all modules but the main one, and prints the output of each as
# it ends.
test_others() {
	for module in $modules; do
		if [ "$module" != . ] && [ ! -e "$work/stop" ]; then
			test_module "$module" "$@" >"$work/output" 2>&1
			cat "$work/output"
		fi
	done
}

if [ -n "${LIMITER_LONG:-}" ]; then
	test_module . "$@"
	test_others "$@"
else
	test_others "$@" &
	test_module . "$@"
	wait
fi
echo "Tested $count modules in $(($(date +%s) - begin)) s."
if [ -e "$work/failed" ]; then
	echo "FAILED:" $(cat "$work/failed") >&2
	exit 1
fi
