"""Semantic segmentation in a container: train and serve FCN, PSP and DeepLabV3, as the SageMaker built-in did."""

from semseg.version import __version__ as __version__
