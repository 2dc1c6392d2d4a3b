#!/bin/sh
# Installs the named Debian packages, each of which brings a program of its own
# name, where that program is missing and apt-get may install it:
#
#	sh tools/ensure-packages.sh redis-server redis-sentinel prometheus
#
# The tests start servers of their own, so a service that the packages bring is
# left neither running nor enabled; one that was there before is not touched.
# Where nothing can be installed this says so and succeeds: the tests that need
# the programs then say that they are skipped.
set -eu

missing=
for package in "$@"; do
	command -v "$package" >/dev/null 2>&1 || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

unavailable() {
	echo "not found:$missing ($1); install them to run every test" >&2
	exit 0
}

command -v apt-get >/dev/null 2>&1 || unavailable "no apt-get here"
if [ "$(id -u)" = 0 ]; then
	as_root=
elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
	as_root="sudo -n"
else
	unavailable "neither root nor sudo without a password"
fi

# policy-rc.d is how Debian lets one forbid packages to start their services.
policy=/usr/sbin/policy-rc.d
if [ -d "${policy%/*}" ] && [ ! -e "$policy" ]; then
	trap '$as_root rm -f "$policy"' EXIT
	trap 'exit 1' HUP INT TERM
	printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null
	$as_root chmod 755 "$policy"
fi

echo "installing$missing"
$as_root apt-get update -qq || true # an old list may still do
# shellcheck disable=SC2086 # both are lists of words
$as_root env DEBIAN_FRONTEND=noninteractive \
	apt-get -o DPkg::Lock::Timeout=120 install -y -qq --no-install-recommends $missing ||
	unavailable "apt-get could not install them"

for package in $missing; do
	$as_root service "$package" stop >/dev/null 2>&1 || true        # should it have started all the same
	$as_root update-rc.d "$package" disable >/dev/null 2>&1 || true # nor at the next boot
done
