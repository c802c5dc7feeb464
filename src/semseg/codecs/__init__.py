"""Bytes to arrays and back, nothing else: no network, no model. Needs numpy and Pillow alone."""
