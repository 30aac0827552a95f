"""Imported first, it makes modules of varan_fairseq that need no fairseq importable without the
package's own start, which registers models with fairseq and takes seconds."""

import importlib.util
import logging
import sys
import types

if "varan_fairseq" not in sys.modules:
    spec = importlib.util.find_spec("varan_fairseq")
    if spec is None:
        sys.exit(
            "varan_fairseq is not installed here: pip install -e . at the root of the repository"
        )
    package = types.ModuleType("varan_fairseq")
    package.__path__ = list(spec.submodule_search_locations)
    sys.modules["varan_fairseq"] = package
    logging.basicConfig(level=logging.INFO, format="%(message)s")  # as fairseq does
