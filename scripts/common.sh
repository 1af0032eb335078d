# Shared by dlrun, test and bench in this folder, which set `here` to the folder and source it: sets `root`, defines `prepare`.
# Runs in bash 3.2 (macOS) too. The way through when all is installed starts no process: it is part of every start of dlrun.

case $here in
    /*/scripts) root=${here%/scripts} ;;
    *) root=$(CDPATH='' cd -- "$here/.." && pwd) ;;
esac

# Whether .venv/ holds what pyproject.toml and constraints.txt ask for now. $1 is the stamp that install.py wrote: the checkout's path
# (a virtual environment cannot be moved), then both files whole.
installed() {
    local was_root='' was='' project='' pins=''
    [[ -x $root/.venv/bin/dlrun && -x $root/.venv/bin/python && -f $1 ]] || return 1
    { IFS= read -r was_root && IFS= read -r -d '' was; } < "$1"
    IFS= read -r -d '' project < "$root/pyproject.toml"
    IFS= read -r -d '' pins < "$root/constraints.txt"
    [[ $was_root -ef $root && $was == "$project$pins" ]]
}

# Prints the first Python that can make the environment; a name may be found and still not run (a version manager's stand-in).
find_python() {
    local name
    for name in ${DLRUN_PYTHON:+"$DLRUN_PYTHON"} python3 python3.13 python3.12 python3.11 python3.14 python; do
        if "$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15)); ' > /dev/null 2>&1 < /dev/null; then
            printf '%s\n' "$name"
            return 0
        fi
    done
    return 1
}

# Makes sure that .venv/ holds dlrun with the extra $1 ("" for none); prints one line and returns 3 where that cannot be.
prepare() {
    local python
    installed "$root/.venv/dlrun-stamp${1:+-$1}" && return 0
    case ${OSTYPE:-} in
        msys* | cygwin* | win32*)
            echo "error: dlrun runs on Linux and macOS, this is $OSTYPE; on Windows use it inside WSL" >&2
            return 3
            ;;
    esac
    if ! python=$(find_python); then
        echo "error: no Python 3.11 to 3.14 found as python3, python3.11 ... python3.14 or python; install one, or name it in DLRUN_PYTHON" >&2
        return 3
    fi
    "$python" "$root/scripts/install.py" "$root" "${1:-}"
}
