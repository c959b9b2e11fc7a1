#!/usr/bin/env bash
# The distribution's PostgreSQL for `make test-all`, into the folder named: Debian's package, and
# what it needs and is not here, unpacked and not installed, so that no server is started and
# nothing needs root but apt's own lists. Its programs are then in bin/.
set -euo pipefail

folder=$1
mkdir -p "$folder/bin"
cd "$folder"

if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
    echo "make test-all takes a second PostgreSQL from Debian's packages: apt-get is needed" >&2
    exit 1
fi
# `postgresql` names the major version of the distribution.
server() { apt-cache depends postgresql | sed -n 's/.*Depends: \(postgresql-[0-9]*\)$/\1/p'; }
# Without recommendations; of an installed package too, for it may lack its programs.
needed() {
    apt-get --simulate --reinstall --no-install-recommends install "$(server)" |
        sed -n 's/^Inst \([^ ]*\).*/\1/p'
}
if [ -z "$(server)" ]; then
    if [ "$(id -u)" -ne 0 ]; then
        echo "apt knows no package \`postgresql\`: as root, run \`apt-get update\` once" >&2
        exit 1
    fi
    apt-get -qq update
fi
mapfile -t packages < <(needed)
# Lists that are older than the mirror name versions that are gone from it.
apt-get -qq download "${packages[@]}" || {
    [ "$(id -u)" -eq 0 ] && apt-get -qq update && apt-get -qq download "${packages[@]}"
}
for package in ./*.deb; do
    dpkg-deb -x "$package" .
    rm -- "$package"
done

# Libraries that are only here are found by these programs alone.
real=$(echo "$PWD"/usr/lib/postgresql/*/bin)
libraries=$(echo "$PWD"/usr/lib/*-linux-*)
for program in initdb postgres; do
    printf '#!/bin/sh\nLD_LIBRARY_PATH=%s exec %s "$@"\n' "$libraries" "$real/$program" \
        >"bin/$program"
    chmod +x "bin/$program"
done
./bin/postgres --version
