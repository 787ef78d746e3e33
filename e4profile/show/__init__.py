"""Records to tables and plots; never imports torch."""
