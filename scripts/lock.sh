#!/usr/bin/env bash
# Writes requirements.lock from the bounds in pyproject.toml: exact versions with hashes, for Linux and macOS.
# Versions already in the lock are kept where they still fit; "scripts/lock.sh --upgrade" takes the newest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Without this, uv would lock for the Python of .venv and later ones only.
oldest=$(sed -n 's/^requires-python = ">=\([0-9.]*\).*/\1/p' pyproject.toml)
.venv/bin/uv pip compile pyproject.toml --python-version "$oldest" --universal --extra dev --extra export --extra lora --extra whisper \
  --generate-hashes --no-header --no-annotate --no-emit-index-url --quiet --output-file requirements.lock "$@" >/dev/null

# Every line carries the marker of [tool.uv] environments; only what differs from it says anything.
common=" ; python_full_version < '3\.14' and \(sys_platform == 'darwin' or sys_platform == 'linux'\)"
sed -E "s/$common//" requirements.lock >requirements.lock.new
mv requirements.lock.new requirements.lock
