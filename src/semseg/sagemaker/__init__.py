"""SageMaker's contract: paths, hyperparameters, channels, log lines, exit codes. Does not import numpy."""
