"""`python -m varan_fairseq` prints the folder for `common.user_dir`, wherever it is installed."""

import os

print(os.path.dirname(os.path.abspath(__file__)))
