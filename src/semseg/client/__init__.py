"""Calls a server of this project, or a SageMaker endpoint of it or of the built-in algorithm, and decodes its answers.

It imports with numpy and Pillow alone; calls over HTTP need requests too. Nothing of a training or a server is needed.
"""

from semseg.client.calls import Client as Client
from semseg.client.sdk import ImageSerializer as ImageSerializer
from semseg.client.sdk import SegmentationDeserializer as SegmentationDeserializer
from semseg.client.segmentation import Segmentation as Segmentation
