#!/bin/sh
# Tests every module with the race detector, and goes on after one that fails:
#
#	sh tools/test.sh [flags of go test]
#
# It prints each module with its time as it ends, and fails at the end where any
# did. LIMITER_LONG=1 makes the tests run at length.
set -u

cd "$(dirname "$0")/.." || exit 1
modules=$(make -s modules)
count=$(echo "$modules" | wc -l)
begin=$(date +%s)
if [ -n "${LIMITER_LONG:-}" ]; then
	echo "Testing $count modules at length with the race detector: 30 to 60 minutes on two idle cores, by estimate."
	set -- -timeout=90m "$@"
else
	echo "Testing $count modules with the race detector: about 5 minutes on two idle cores, more on a first run, which compiles everything."
fi
sh tools/ensure-packages.sh redis-server

failed=
for module in $modules; do
	start=$(date +%s)
	if (cd "$module" && go test -race -shuffle=on -count=1 "$@" ./...); then
		verdict=ok
	else
		verdict=FAILED
		failed="$failed $module"
	fi
	echo "--- $verdict: $module in $(($(date +%s) - start)) s"
done
echo "Tested $count modules in $(($(date +%s) - begin)) s."
if [ -n "$failed" ]; then
	echo "FAILED:$failed" >&2
	exit 1
fi
