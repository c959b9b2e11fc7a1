#!/usr/bin/env bash
# Prometheus and promtool for `make test-all`, into the folder named: Debian's package `prometheus`,
# unpacked and not installed, so that nothing is started and nothing needs root but apt's own lists.
set -euo pipefail

folder=$1
mkdir -p "$folder"
cd "$folder"

if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
    echo "make test-all takes Prometheus from Debian's package of that name: apt-get is needed" >&2
    exit 1
fi
if ! apt-cache show prometheus >/dev/null 2>&1; then
    if [ "$(id -u)" -ne 0 ]; then
        echo "apt knows no package \`prometheus\`: as root, run \`apt-get update\` once" >&2
        exit 1
    fi
    apt-get -qq update
fi
# Lists that are older than the mirror name versions that are gone from it.
apt-get -qq download prometheus || {
    [ "$(id -u)" -eq 0 ] && apt-get -qq update && apt-get -qq download prometheus
}
dpkg-deb -x prometheus_*.deb .
rm -- prometheus_*.deb
./usr/bin/promtool --version | head -1
