"""Published figures against a declared space of architectures and counting rules."""

from e4profile.reconcile.ranking import Nearest, Reconciled, Reconciliation
from e4profile.reconcile.rows import Figure, Row, published_rows
from e4profile.reconcile.search import reconcile
from e4profile.reconcile.space import AXES, Rule, architectures, rules

__all__ = [
    "AXES",
    "Figure",
    "Nearest",
    "Reconciled",
    "Reconciliation",
    "Row",
    "Rule",
    "architectures",
    "published_rows",
    "reconcile",
    "rules",
]
