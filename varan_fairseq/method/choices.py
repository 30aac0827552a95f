"""Names that options choose from, in one place; without torch, since every --help shows some."""

from typing import Sequence

AGGREGATIONS = ("last_layer", "weighted_sum", "attentive", "hconv", "concat", "varan")
POSTERIORS = ("input", "static", "prior")
PRIORS = ("uniform", "geometric", "geometric_reversed", "chi2", "chi2_reversed")
DIRECTIONS = ("prior_posterior", "posterior_prior")
ACTIVATIONS = ("none", "relu")
RULES = ("mixture", "log_linear", "best_layer")
CTC_RULES = (*RULES, "consensus", "vote")
REGRESSION_RULES = ("mixture", "best_layer")


def check_choice(option: str, value: str, choices: Sequence[str]) -> None:
    """Raises ValueError, naming the option, for a value that is none of the choices."""
    if value not in choices:
        raise ValueError(f"{option}={value}: choose one of {', '.join(choices)}")


def check_rule(rule: str, rules: Sequence[str] = RULES) -> None:
    """Raises ValueError for a rule of combination that is none of `rules`."""
    if rule not in rules:
        raise ValueError(f"unknown combination rule {rule!r}: choose one of {', '.join(rules)}")
