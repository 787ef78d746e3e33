"""The reports folder: every published table, every figure and the page, made from cards and committed records."""
