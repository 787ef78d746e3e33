"""The guard: budgets and an exact committed baseline of a project's networks, checked on every change.

Budgets are upper limits: an improvement passes. The baseline is exact: every count that moves is a deviation,
an improvement too, until ``e4profile guard --update`` accepts it.
"""
