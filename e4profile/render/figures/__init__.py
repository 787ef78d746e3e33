"""One file per kind of figure: rows in, a finished figure out."""
