"""The recipe: what is done with data and a learner, in which order, and when to stop."""
