"""The only home of MXNet and GluonCV.

Importing a module of this folder (except `runtime`, `cuda`, `faults` and `weights_store`) loads MXNet, which takes
seconds: import them where they are used.
"""
