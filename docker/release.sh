#!/bin/sh
# A release of what is committed: the wheel, built twice in separate folders and found the same byte for byte, and
# sbom.json (CycloneDX) of everything that `pip install vitalwire[edge,cloud,postgres]` brings at the pinned versions.
# Usage: docker/release.sh [OUT]; with SBOM=no the wheel alone.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
out=${1:-"$root/dist"}
uv="$root/.venv/bin/uv"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
umask 022 # file modes are part of a wheel

SOURCE_DATE_EPOCH=$(git -C "$root" log -1 --format=%ct)
export SOURCE_DATE_EPOCH

build() { # in a folder of its own, as another machine would: another path, time zone and hash seed
    mkdir -p "$work/$1/tree" "$work/$1/out"
    git -C "$root" archive HEAD | tar -x -C "$work/$1/tree"
    TZ=$2 PYTHONHASHSEED=$3 "$uv" build --quiet --wheel --no-create-gitignore \
        --build-constraints "$root/constraints.txt" --out-dir "$work/$1/out" "$work/$1/tree"
    (cd "$work/$1/out" && sha256sum ./*.whl)
}
first=$(build one UTC 1)
second=$(build two/deeper Asia/Shanghai 2)
if [ "$first" != "$second" ]; then
    printf 'the wheel is not reproducible:\n%s\n%s\n' "$first" "$second" >&2
    exit 1
fi
mkdir -p "$out"
cp "$work"/one/out/*.whl "$out/"
echo "$first" | tee "$out/SHA256SUMS"

[ "${SBOM:-yes}" = yes ] || exit 0
"$uv" venv --quiet "$work/venv"
wheel=$(ls "$work"/one/out/*.whl)
"$uv" pip install --quiet --python "$work/venv/bin/python" --constraint "$root/constraints.txt" \
    "vitalwire[edge,cloud,postgres] @ file://$wheel"
"$uv" tool run --quiet --constraints "$root/constraints.txt" --from cyclonedx-bom cyclonedx-py environment \
    --pyproject "$work/one/tree/pyproject.toml" --output-reproducible -o "$out/sbom.json" "$work/venv/bin/python"
echo "$out/sbom.json"
