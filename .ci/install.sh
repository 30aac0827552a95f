#!/bin/bash
# install.sh PYTHON VENV: a virtual environment with the versions this was tested with.
# A second call is a no-op until setup.py or the constraints change.
set -euo pipefail
python=$1 venv=$2
here=$(dirname "$0")
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
case $version in
    3.11 | 3.12) lane=main ;;
    *) lane=stock ;;
esac
constraints=$here/constraints-$lane.txt
stamp=$venv/.installed
wanted=$(cat "$here/../setup.py" "$constraints" "$0" | cksum)${TORCH:-}
[ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && exit 0

echo "setting up $venv: Python $version, $(grep fairseq== "$constraints")"
"$python" -m venv --clear "$venv"
export PIP_DISABLE_PIP_VERSION_CHECK=1
pip() { "$venv/bin/python" -m pip install --quiet "$@"; }
if [ $lane = stock ]; then
    pip 'pip<24.1' # newer ones refuse omegaconf 2.0.6
fi
pip wheel 'setuptools<81'
# torch first: whatever else wants it must not choose another
pip ${TORCH:-"$(grep '^torch==' "$constraints")"} --constraint "$constraints"
pip --constraint "$constraints" --editable "$here/..[fairseq,test]"
echo "$wanted" >"$stamp"
