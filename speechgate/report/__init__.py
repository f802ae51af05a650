"""Results of several decoded models: results.json, plots, a table for the terminal, one self-contained page."""
