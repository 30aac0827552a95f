"""Command-line tools: each module has a main(), also installed as a console script."""

import os
import sys
from typing import Callable, List, Optional


def run(name: str, work: Callable[[Optional[List[str]]], None], argv: Optional[List[str]]) -> int:
    """Runs a tool. What the user can mend is one line on stderr and exit code 2; set
    VARAN_TRACEBACK=1 to see where it was raised."""
    try:
        work(argv)
    except (ValueError, OSError, ModuleNotFoundError) as error:
        if os.environ.get("VARAN_TRACEBACK"):
            raise
        print(f"{name}: error: {error}", file=sys.stderr)
        return 2
    return 0
