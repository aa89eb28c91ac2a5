#!/usr/bin/env bash
# Put Prometheus' promtool into a folder, out of Debian's package: no root, no service.
set -euo pipefail
folder=$(cd "$1" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
apt-get download -q prometheus || { apt-get update -q && apt-get download -q prometheus; }
dpkg-deb -x prometheus_*.deb .
install -m 755 usr/bin/promtool "$folder/promtool"
