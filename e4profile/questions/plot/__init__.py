"""What can be drawn of which networks, and the set of figures of the reports."""
