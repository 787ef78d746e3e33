"""One room per question: its rows, its table, its figure and its command."""
