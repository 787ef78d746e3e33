"""Results as tables for readers: which columns, in which order, with which notes. Nothing is measured here."""
