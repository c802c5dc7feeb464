"""How good a prediction is: counts, and the numbers read from them. Needs numpy alone."""
