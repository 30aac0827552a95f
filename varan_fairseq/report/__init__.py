"""One page on how a recognizer did on a split, to look at in a browser, offline."""
