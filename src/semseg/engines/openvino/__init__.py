"""The engine of OpenVINO, and the only code that imports it."""
