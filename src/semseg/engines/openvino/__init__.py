"""The only home of OpenVINO."""
