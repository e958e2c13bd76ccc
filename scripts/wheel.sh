#!/usr/bin/env bash
# Builds the wheel of the last commit twice, from two folders, with another umask, time zone and locale: the bytes have
# to be equal. What builds it is pinned by hash (requirements/build.txt). The wheel is then in build/wheel.
set -euo pipefail
uv=$(realpath "$1")
cd "$(dirname "$0")/.."
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH

temporary=$(mktemp -d)
trap 'rm -rf "$temporary"' EXIT

build() { # FOLDER
  mkdir "$temporary/$1"
  git archive HEAD | tar --extract --touch --directory "$temporary/$1"
  "$uv" build "$temporary/$1" --quiet --wheel --require-hashes --build-constraints requirements/build.txt \
    --out-dir "$temporary/$1-wheel"
}

(umask 022 && TZ=UTC LC_ALL=C build one)
(umask 077 && TZ=Asia/Tokyo LC_ALL=C.UTF-8 build another-folder)

rm -rf build/wheel
mkdir -p build/wheel
cp "$temporary"/one-wheel/*.whl build/wheel
for wheel in build/wheel/*.whl; do
  cmp "$wheel" "$temporary/another-folder-wheel/${wheel##*/}"
  sha256sum "$wheel"
done
