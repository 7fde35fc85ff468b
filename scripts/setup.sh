# Set-up shared by ./test and ./demo: system packages, the Python environment, the build. Sourced, not run.
# Every step first looks whether there is anything to do, says in one line what it does, and ends the script with one
# line where something cannot be had.
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
PYTHON=$ROOT/.venv/bin/python
JOBS=$(nproc)
OFFLINE=${OFFLINE:-}
SYSTEM_PACKAGES=(ccache mold ninja-build nlohmann-json3-dev libcli11-dev libgtest-dev
                 libgmock-dev libbenchmark-dev libgloo-dev libboost-dev zlib1g-dev python3-dev pybind11-dev iproute2)
TORCH=torch==2.13.0
NUMPY=numpy
# What src/text runs (the build reads this line; pyarrow is for Parquet files as training data).
TEXT=(tokenizers==0.22.2 jinja2==3.1.6 tiktoken==0.14.0 pyarrow==26.0.1)
ORACLE=(transformers==4.57.6 safetensors openai==3.57.0 lm_eval==0.4.13 aiohttp tenacity)
ORACLE5=(transformers==5.24.0 tokenizers==0.23.3 huggingface_hub==2.4.0)  # in a second environment, .venv-oracle5

say() { echo "-- $*"; }
fail() { echo "$(basename "$0"): $*" >&2; exit 1; }

# Root, sudo or nothing in front of a command that changes the system.
as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@" 2>/dev/null || sudo "$@"; fi
}

apt_install() {  # apt_install PACKAGE...: those that are missing
  local missing=()
  for package in "$@"; do
    [[ $(dpkg-query -W -f '${Status}' "$package" 2>/dev/null) == *" installed" ]] || missing+=("$package")
  done
  [ ${#missing[@]} = 0 ] && return
  [ -n "$OFFLINE" ] && fail "system packages missing and --offline given: ${missing[*]}"
  command -v apt-get >/dev/null || fail "no apt-get here; install what README.md lists under 'Your own packages'"
  [ "$(id -u)" = 0 ] || command -v sudo >/dev/null || fail "root or sudo is needed to install: ${missing[*]}"
  say "installing system packages: ${missing[*]}"
  local log; log=$(mktemp)
  { as_root apt-get update && as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
      "${missing[@]}"; } >"$log" 2>&1 || { tail -n 5 "$log" >&2; fail "apt-get could not install: ${missing[*]}"; }
  rm -f "$log"
}

system_packages() {
  command -v dpkg-query >/dev/null || { say "not a Debian system: taking the system packages as given"; return; }
  local packages=("${SYSTEM_PACKAGES[@]}")
  command -v g++ >/dev/null || packages+=(g++)
  command -v cmake >/dev/null || packages+=(cmake)
  command -v python3 >/dev/null || packages+=(python3)
  python3 -c 'import ensurepip, venv' 2>/dev/null || packages+=(python3-venv)
  apt_install "${packages[@]}"
}

has_python_packages() {  # has_python_packages NAME[==VERSION]..., of the environment that $PYTHON is of
  "$PYTHON" - "$@" <<'PY' 2>/dev/null
import sys
from importlib.metadata import version
for wanted in sys.argv[1:]:
    name, _, pin = wanted.partition("==")
    assert version(name).split("+")[0] == (pin or version(name).split("+")[0])
PY
}

pip_install() {
  has_python_packages "$@" && return
  local environment; environment=$(basename "$(dirname "$(dirname "$PYTHON")")")
  [ -n "$OFFLINE" ] && fail "Python packages missing from $environment and --offline given: $*"
  say "installing into $environment: $*"
  local log; log=$(mktemp)
  "$PYTHON" -m pip install --quiet --disable-pip-version-check "$@" >"$log" 2>&1 && { rm -f "$log"; return; }
  tail -n 1 "$log" >&2
  return 1
}

python_environment() {
  [ -x "$PYTHON" ] || { say "making .venv"; python3 -m venv "$ROOT/.venv" || fail "python3 -m venv .venv failed"; }
  pip_install $TORCH || fail "pip could not install $TORCH"
  pip_install $NUMPY || fail "pip could not install $NUMPY"
  pip_install "${TEXT[@]}" || fail "pip could not install ${TEXT[*]}"
}

oracle_packages() {  # what the checks against transformers need
  pip_install "${ORACLE[@]}" || fail "pip could not install ${ORACLE[*]}; ./test --no-oracle goes without"
}

oracle5_packages() {  # the same for transformers 5: an environment of its own that sees what it does not hold itself in .venv
  local own=$ROOT/.venv-oracle5 shared
  [ -x "$own/bin/python" ] || { say "making .venv-oracle5"; python3 -m venv "$own" || fail "python3 -m venv .venv-oracle5 failed"; }
  shared=$("$PYTHON" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
  echo "$shared" >"$(PYTHON=$own/bin/python; "$PYTHON" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/shared.pth"
  PYTHON=$own/bin/python pip_install "${ORACLE5[@]}" || fail "pip could not install ${ORACLE5[*]}; ./test goes without transformers 5"
}

build() {  # build [TARGET...]
  cd "$ROOT" || exit 1
  if [ ! -f build/build.ninja ]; then
    say "configuring build/"
    local log; log=$(mktemp)
    cmake --preset release >"$log" 2>&1 || { cat "$log" >&2; fail "cmake --preset release failed"; }
    rm -f "$log"
  fi
  if cmake --build --preset release ${1:+--target "$@"} -- -n | grep -q "no work to do"; then return; fi
  say "building (first time: some minutes)"
  cmake --build --preset release -j "$JOBS" ${1:+--target "$@"} || fail "the build failed"
}
