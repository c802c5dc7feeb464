"""Training jobs: reading the inputs, the training loop, checkpoints and the model artifact."""
