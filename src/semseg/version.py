"""The version of this project, for the package's metadata, the images and what they write."""

__version__ = "0.1.0"
