#!/usr/bin/env bash
# Makes .venv: a Python that pyproject.toml allows, the packages of requirements.lock, and speechgate in place.
# Needs uv, or any Python from 3.8 on to install uv with. Nothing is installed outside this folder, but for uv's
# cache and, where no suitable Python is found, one of uv's own, both in the user's home.
# Safe to run again: ends at once unless pyproject.toml, requirements.lock, this script or the folder has changed.
set -euo pipefail
cd -P "$(dirname "${BASH_SOURCE[0]}")/.."
unset VIRTUAL_ENV CONDA_PREFIX PYTHONHOME PYTHONPATH # an activated environment must not be taken for .venv
pyenv_versions=${PYENV_ROOT:-${HOME:-}/.pyenv}/versions
stamp=.venv/speechgate.stamp
own_uv=.bootstrap/uv

state() { { printf '%s\n' "$PWD" && cat pyproject.toml requirements.lock scripts/bootstrap.sh; } | cksum; }
is_ready() { [[ -x .venv/bin/python && -f $stamp && $(state) == "$(<"$stamp")" ]]; }
say() { printf 'bootstrap: %s\n' "$*" >&2; }
die() {
  say "$@"
  exit 1
}

# False also for a pyenv shim with no uv behind it, and for a uv too old to look for a Python.
uv_works() { "$1" python find --help >/dev/null 2>&1; }

# Paths of all the Pythons there are, one a line; some may be shims that do not run.
list_pythons() {
  local name
  for name in python3 python python3.{14,13,12,11,10,9,8}; do
    type -aP "$name" || true
  done
  compgen -G "$pyenv_versions/*/bin/python3" || true
}

# Installs uv as locked, hashes checked, with the first Python that can.
install_uv() {
  local python wanted=.bootstrap/uv.lock
  mkdir -p .bootstrap
  sed -n '/^uv==/,/[^\]$/p' requirements.lock >"$wanted"
  while read -r python; do
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 8))' 2>/dev/null || continue
    say "installing uv with $python"
    rm -rf "$own_uv"
    if "$python" -m venv "$own_uv" >/dev/null 2>&1; then
      "$own_uv/bin/python" -m pip install --quiet --require-hashes -r "$wanted" || continue
    else # Debian's python3 lacks venv where the package python3-venv is missing; its pip will do
      "$python" -m pip install --quiet --require-hashes -r "$wanted" --target "$own_uv" || continue
    fi
    uv_works "$own_uv/bin/uv" && return
  done < <(list_pythons)
  die "cannot install uv: no Python from 3.8 on with venv or pip works here (see above for what was tried)." \
    "Install one (Debian, Ubuntu: apt install python3-venv) or uv itself, put it on PATH, and try again."
}

is_ready && exit

if type -P flock >/dev/null; then # a second run waits for the first, and then finds the work done
  mkdir -p .bootstrap
  exec 9>.bootstrap/lock
  flock 9
  is_ready && exit
fi

uv=uv
if ! uv_works "$uv"; then
  uv=$own_uv/bin/uv
  uv_works "$uv" || install_uv
fi

# uv searches PATH for a Python that pyproject.toml allows, then downloads one; pyenv's are shown to it here.
for folder in "$pyenv_versions"/3.*/bin; do
  PATH=$PATH:$folder
done
if [[ $("$uv" python find 2>/dev/null) != "$PWD/.venv/"* ]]; then
  say "making .venv"
  rm -rf .venv
  "$uv" venv --relocatable || die "no suitable Python: speechgate needs one of" \
    "$(sed -n 's/^requires-python = //p' pyproject.toml), which is neither on PATH nor under $pyenv_versions," \
    "and uv could not download one. Install it (for example: pyenv install 3.12) and try again."
fi

rm -f "$stamp"
"$uv" pip sync --python .venv/bin/python --require-hashes requirements.lock ||
  die "the packages could not be installed (see above). Check the network and the disk, then try again."
"$uv" pip install --python .venv/bin/python --quiet --no-deps --no-build-isolation --editable .
state >"$stamp"
say "ready: .venv/bin/speechgate"
