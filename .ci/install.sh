#!/bin/bash
# install.sh PYTHON VENV EXTRA: a virtual environment with the versions this was tested with
# and what an extra of setup.py asks for. A second call is a no-op until setup.py or the
# constraints change.
set -euo pipefail
python=$1 venv=$2 extra=$3
here=$(dirname "$0")
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
case $version in
    3.11 | 3.12) lane=main ;;
    *) lane=stock ;;
esac
constraints=$here/constraints-$lane.txt
wanted=$(cat "$here/../setup.py" "$constraints" "$0" | cksum)${TORCH:-}
[ "$(cat "$venv/.installed-$extra" 2>/dev/null)" = "$wanted" ] && exit 0

export PIP_DISABLE_PIP_VERSION_CHECK=1
# python with a dot every two seconds: some of these take a minute
dotted() {
    "$venv/bin/python" "$@" &
    while kill -0 $! 2>/dev/null; do
        printf .
        sleep 2
    done
    wait $!
}
pip() {
    dotted -m pip install --quiet --no-compile "$@"
}
if [ "$(cat "$venv/.installed" 2>/dev/null)" != "$wanted" ]; then
    echo "setting up $venv: Python $version, $(grep fairseq== "$constraints")"
    "$python" -m venv --clear "$venv"
    if [ $lane = stock ]; then
        pip 'pip<24.1' # newer ones refuse omegaconf 2.0.6
    fi
    pip wheel 'setuptools<81'
    # torch first: whatever else wants it must not choose another
    pip ${TORCH:-"$(grep '^torch==' "$constraints")"} --constraint "$constraints"
    echo "$wanted" >"$venv/.installed"
fi
pip --constraint "$constraints" --editable "$here/..[fairseq,$extra]"
# pip would compile on one core; a few files of other packages are for other Pythons
dotted -W ignore -m compileall -qq -j 0 "$venv/lib" 2>/dev/null || true
echo "$wanted" >"$venv/.installed-$extra"
echo
