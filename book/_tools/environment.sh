#!/bin/sh
# Create .venv where it is missing and install one locked set into it:
#   environment.sh requirements.lock [python]
# Where the set is already there, this takes a few milliseconds.
set -eu
lock=$1
wanted=${2:-}
venv=.venv

suits() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1; }
version() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || echo missing; }
stop() { echo "$1" >&2; exit 1; }
# The scripts of an environment hold its path: after a move or a copy of the folder they run another one, or nothing.
in_place() {
    [ -f "$venv/bin/pip" ] && IFS= read -r line < "$venv/bin/pip" || return 1
    interpreter=${line#"#!"}
    [ "$interpreter" = /bin/sh ] || [ "$(dirname "$interpreter")" -ef "$venv/bin" ]
}

# Another Python was asked for than the one that .venv was made with: make it anew.
if [ -n "$wanted" ] && [ -x "$venv/bin/python" ] && [ "$(version "$wanted")" != "$(version "$venv/bin/python")" ]; then
    suits "$wanted" && rm -rf "$venv"
fi

if [ -n "$wanted" ] || ! suits "$venv/bin/python" || ! in_place; then
    python=
    for candidate in ${wanted:-python3 python3.13 python3.12 python3.11 python}; do
        if suits "$candidate"; then python=$candidate; break; fi
    done
    [ -n "$python" ] || stop "The book needs Python 3.11, 3.12 or 3.13, and ${wanted:-python3} is $(version "${wanted:-python3}"): install one of them, or name it, as in PYTHON=python3.12 make book."
fi

if ! suits "$venv/bin/python" || ! in_place; then
    rm -rf "$venv"
    echo "Creating $venv with Python $(version "$python")."
    "$python" -m venv "$venv" >/dev/null 2>&1 || {
        rm -rf "$venv"
        stop "Python $(version "$python") cannot create an environment: its venv module is incomplete (on Debian and Ubuntu: apt install python3-venv), or this folder cannot be written."
    }
fi

# What was installed is remembered as copies of the files that say what to install.
same() { cmp -s "$1" "$venv/installed/$1" && cmp -s pyproject.toml "$venv/installed/pyproject.toml"; }
same "$lock" && exit 0

echo "Installing $lock into $venv (once; a few minutes on a slow line)."
"$venv/bin/python" -m pip install -qq --disable-pip-version-check -r "$lock" ||
    stop "The locked packages could not be installed; the lines above say which one. Run make again when the package index can be reached."
"$venv/bin/python" -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --editable .
mkdir -p "$venv/installed"
cp "$lock" pyproject.toml "$venv/installed"
# The test set holds the book's whole set (tests/test_repository.py), so make book need not install again.
if [ "$lock" = requirements-test.lock ]; then cp requirements.lock "$venv/installed"; fi
