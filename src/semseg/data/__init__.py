"""From channels to batches: which files belong together, what their labels mean, how they are augmented."""
