"""Two files of results held against each other: counts exactly, times with a verdict."""
