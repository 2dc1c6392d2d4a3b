#!/bin/sh
# See ensure-packages.sh.
exec sh "${0%/*}/ensure-packages.sh" redis-server redis-sentinel
