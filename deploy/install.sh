#!/bin/sh
# Makes .venv from requirements.lock, with everything that worker, training, tests and demo need.
# Runs again only when the lock or this script has changed. Needs Python 3.11 or newer; nothing else.
#   TORCH_INDEX   address of another package index, to take torch alone from: PyTorch's own CPU index saves 3 GB
#   PYTHON        which Python (default: python3)
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
venv=.venv
stamp=$venv/installed

wanted=$(cat requirements.lock deploy/uv.lock deploy/install.sh pyproject.toml | cksum; printf '%s' "${TORCH_INDEX:-}")
[ -x "$venv/bin/hamgate" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && exit 0

say() { printf '%s\n' "$*" >&2; }

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || {
    say "hamgate needs Python 3.11 or newer; $python is $("$python" --version 2>&1 || true)."
    say "Name another one by PYTHON=..., or on Debian and Ubuntu: sudo apt-get install python3 python3-venv"
    exit 1
}
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        say "Installing python3-venv"
        apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv >/dev/null
    else
        say "This Python cannot make virtual environments. To fix it: sudo apt-get install python3-venv"
        exit 1
    fi
fi

# Compiled here and now: where Python may not write bytecode, every `hamgate predict` would compile torch anew.
say "Installing into $venv (about 3 GB to fetch with torch's GPU libraries; TORCH_INDEX in README.md for less)"
rm -f "$stamp"
"$python" -m venv --clear "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r deploy/uv.lock
uv() { "$venv/bin/uv" --no-progress "$@"; }
VIRTUAL_ENV=$PWD/$venv
export VIRTUAL_ENV

if [ -n "${TORCH_INDEX:-}" ]; then
    # The other index has other builds, and so other hashes: torch by its version, all else by the lock.
    # A requirement is a line that starts at the margin, with the indented lines after it.
    awk '/^[^ #]/ { skip = /^(torch|triton|cuda-|nvidia-)/ } !skip' requirements.lock > "$venv/requirements.lock"
    uv pip install --compile-bytecode --require-hashes --no-deps -r "$venv/requirements.lock"
    uv pip install --compile-bytecode --no-deps --index-url "$TORCH_INDEX" "$(sed -n 's/^\(torch==[^ ]*\).*/\1/p' requirements.lock)"
else
    uv pip install --compile-bytecode --require-hashes -r requirements.lock
fi
uv pip install --no-deps --no-build-isolation --editable .
printf '%s' "$wanted" > "$stamp"
