"""The numbers in the criteria for rare classes, which every engine's losses share."""

from __future__ import annotations

FOCUS = 2.0
"""The focal loss's exponent, by which it neglects pixels that are right already: the value that its authors chose."""

SMOOTH = 1.0
"""Pixels added to the numerator and denominator of a dice coefficient, so that it is defined for absent classes."""

LEAST_WEIGHT = 1e-6
"""The least sum of weights that a weighted mean is divided by, so that nothing to learn from is no gradient."""
