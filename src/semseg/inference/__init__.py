"""From an image to class ids or probabilities, with any engine's Backend. Nothing here knows HTTP."""
