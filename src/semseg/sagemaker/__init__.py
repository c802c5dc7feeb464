"""The platform's contract: paths, hyperparameters, channels, log lines, the job's end. Needs no numpy."""
