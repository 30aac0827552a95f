"""VARAN in plain PyTorch: no fairseq here, the folder can be lifted out and used alone.

Reading order:

1. `prior`: p(l), where useful layers are expected.
2. `posterior`: q(l|x), how much each layer counts for an utterance.
3. `heads`: p(y | x, l), every layer's own prediction.
4. `ctc`, `classification`: the negative log-likelihood of every layer.
5. `objective`: J = E_q[NLL] + beta KL, what training minimises.
6. `aggregation`: VARAN, and its rivals of `baselines`, behind one interface.
7. `combine`, `consensus`, `vote` with `emission`: one prediction from the predictions of all layers.

`kernels/` is there for speed alone. `docs/method.md` tells the same story in words.
"""
