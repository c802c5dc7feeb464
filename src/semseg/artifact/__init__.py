"""What a model directory is: read, write, verify, never trust. Needs numpy alone."""
