#!/bin/bash
# find_python.sh ASKED VERSION...: prints ASKED if it is given and of one of these versions,
# else the first of these versions on the PATH or under pyenv; nothing if there is none.
asked=$1
shift
right() { # PYTHON VERSION
    [ -n "$1" ] && "$1" -c "import sys; sys.exit('%d.%d' % sys.version_info[:2] != '$2')" 2>/dev/null
}
for version in "$@"; do
    if [ -n "$asked" ]; then
        candidates=$asked
    else
        candidates="python$version python3 python $(ls -d "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$version".*/bin/python 2>/dev/null)"
    fi
    for candidate in $candidates; do
        if right "$candidate" "$version"; then
            command -v "$candidate"
            exit 0
        fi
    done
done
