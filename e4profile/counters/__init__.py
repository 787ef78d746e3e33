"""One file per counter; each gives the same Count."""
