#!/usr/bin/env bash
# Make .venv from the lock file that fits this machine: gpu.lock with an NVIDIA GPU, else cpu.lock.
#
#   locks/bootstrap.sh [cpu|gpu]
#
# A stamp holds a digest of what was installed; while it fits, a further call does nothing.
# Environment: PYTHON (an interpreter of version 3.11, default python3.11 or python3), PSOMERGE_PIP_ONLY=1 (do not use uv).
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf 'bootstrap: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

variant=${1:-}
if [[ -z $variant ]]; then
  variant=cpu
  if command -v nvidia-smi >/dev/null && nvidia-smi -L 2>/dev/null | grep -q '^GPU'; then variant=gpu; fi
fi
lock=locks/$variant.lock
[[ -f $lock ]] || die "no $lock: expected 'cpu' or 'gpu', found '$variant'"

python=${PYTHON:-$(command -v python3.11 || command -v python3)} || die "no python3.11 found; set PYTHON"
"$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || die "$python is not Python 3.11; set PYTHON"

# Of pyproject.toml only what an installation depends on: a change of a linter's rule is no reason to install anew.
digest=$("$python" - "$variant" "$PWD" "$lock" locks/bootstrap.sh <<'EOF'
import hashlib, json, pathlib, sys, tomllib
settings = tomllib.loads(pathlib.Path("pyproject.toml").read_text())
parts = [settings["project"], settings["build-system"], settings["tool"]["hatch"], sys.version, sys.executable, sys.argv[1:3]]
files = [pathlib.Path(name).read_text() for name in sys.argv[3:]]
print(hashlib.sha256(json.dumps([parts, files], sort_keys=True).encode()).hexdigest())
EOF
)
stamp=.venv/.installed
installed() { [[ -x .venv/bin/python && -f $stamp && $(<"$stamp") == "$digest" ]]; }
if installed; then exit 0; fi

exec 9>.venv.lock && flock 9                      # two calls at once: the second waits and finds the stamp
if installed; then exit 0; fi

# Bytecode must be written, or every `import vllm` compiles thousands of files again.
export PYTHONDONTWRITEBYTECODE=
start=$SECONDS
rm -rf .venv                                      # always anew: nothing stale, nothing half installed; seconds with uv's cache
"$python" -m venv .venv
venv_python=$PWD/.venv/bin/python

# Folders that pip is told to look in for wheels (a CPU build of torch may lie there). uv does not read pip's settings.
links=()
while read -r place; do
  [[ -d $place ]] && compgen -G "$place/torch-*.whl" >/dev/null && links+=(--find-links "$place")
done < <({ tr ' ' '\n' <<<"${PIP_FIND_LINKS:-}"; "$venv_python" -m pip config list 2>/dev/null |
  sed -n "s/.*find-links='\(.*\)'\$/\1/p" | sed 's/\\n/\n/g' | tr ' ' '\n'; } | sort -u)

# pip warns of every configured index folder that happens not to hold the package; that is no news for the user.
pip_install() {
  "$venv_python" -m pip install -q --disable-pip-version-check "$@" \
    2> >(grep -v "^WARNING: Location '.*' is ignored: it is neither a file nor a directory\.$" >&2) >&2
}

uv=
if [[ -z ${PSOMERGE_PIP_ONLY:-} ]]; then
  uv=$(command -v uv || true)
  if [[ -z $uv ]] && pip_install uv; then uv=$PWD/.venv/bin/uv; fi
fi

# The locks are complete, so nothing is resolved again (--no-deps): vLLM's CPU build would drag in CUDA builds of
# torchvision, torchaudio and torchcodec, and with those next to a CPU torch `from vllm import LLM` fails.
if [[ -n $uv ]]; then
  backend=()
  [[ $variant == cpu && ${#links[@]} == 0 ]] && backend=(--torch-backend cpu)
  say "installing $lock with uv"
  "$uv" pip install -q --python "$venv_python" --no-deps "${links[@]}" "${backend[@]}" -r "$lock" -e . >&2
else
  say "installing $lock with pip"
  pip_install --no-deps -r "$lock" -e .
fi

"$venv_python" -c 'import sys, torch; sys.exit((torch.version.cuda is not None) != (sys.argv[1] == "gpu"))' "$variant" ||
  die "the installed torch does not import, or is not a build for '$variant'"
echo "$digest" >"$stamp"                          # last: an interrupted call leaves none, and the next one starts anew
say "done in $((SECONDS - start)) s"
