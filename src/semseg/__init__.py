"""Semantic segmentation in a container: train and serve FCN, PSP and DeepLabV3, as the SageMaker built-in did."""

__version__ = "0.1.0"
