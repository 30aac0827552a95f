"""One page on how a model did on a split, to look at in a browser, offline."""
