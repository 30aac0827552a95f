"""VARAN in plain PyTorch: no fairseq here, the folder can be lifted out and used alone.

Read in this order: `prior` p(l), `posterior` q(l|x), `heads` p(y|x,l), `objective`
(what training minimises), `combine` (what prediction reads), `aggregation` (VARAN and
its rivals behind one interface). `docs/method.md` tells the same story in words.
"""
