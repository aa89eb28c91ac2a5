#!/bin/sh
# Rewrite the lock files from pyproject.toml. They name versions and hashes, never a registry.
set -eu
cd "$(dirname "$0")/.."
compile() {
    "${UV:-uv}" pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
        --no-emit-package mosaic-session-client --no-annotate --no-header --quiet "$@"
}
compile pyproject.toml --output-file requirements/run.txt
compile pyproject.toml --group dev --output-file requirements/dev.txt
compile --group pyproject.toml:browser --constraints requirements/dev.txt --output-file requirements/browser.txt
compile --group pyproject.toml:bench --constraints requirements/dev.txt --output-file requirements/bench.txt
compile --group pyproject.toml:servers --constraints requirements/dev.txt --output-file requirements/servers.txt
compile --group pyproject.toml:deploy --constraints requirements/dev.txt --output-file requirements/deploy.txt
