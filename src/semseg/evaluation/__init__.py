"""Scores of predictions against annotations. Depends on numpy only."""
