"""Pages: tables, figures and closed forms in one HTML file that needs nothing beside it."""
