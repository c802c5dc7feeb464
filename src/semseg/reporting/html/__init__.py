"""The report on a training or an evaluation: one HTML file that loads nothing, drawn from values by a template."""
