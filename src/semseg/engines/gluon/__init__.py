"""The engine of MXNet and GluonCV, and the only code that imports them.

Importing `backend`, `learner`, `losses`, `networks` or `symbol` loads MXNet, which takes seconds: import these modules
where they are used.
"""
