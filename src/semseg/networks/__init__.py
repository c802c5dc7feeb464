"""The segmentation networks, defined independently of any engine."""
