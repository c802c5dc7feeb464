"""The only home of MXNet and GluonCV.

Importing `backend`, `learner`, `losses`, `networks` or `symbol` loads MXNet, which takes seconds: import them where
they are used.
"""
