"""The clock as a witness: raw samples, their median, and how well it is known."""
