"""`python -m varan_fairseq` prints the folder for `common.user_dir`, wherever it is installed;
`python -m varan_fairseq recipes` that for `--config-dir`, and `python -m varan_fairseq manifests`
that of the scripts that make corpora."""

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
FOLDERS = {"recipes": "examples", "manifests": "manifests"}


def folder(what: str) -> str:
    """Of what `pip install .` copied into the package, or of the repository where it did not."""
    installed = os.path.join(HERE, FOLDERS[what])
    return (
        installed
        if os.path.isdir(installed)
        else os.path.join(os.path.dirname(HERE), FOLDERS[what])
    )


if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1] not in FOLDERS:
        sys.exit(
            f"python -m varan_fairseq {sys.argv[1]}: expected nothing, or {' or '.join(FOLDERS)}"
        )
    print(folder(sys.argv[1]) if sys.argv[1:] else HERE)
