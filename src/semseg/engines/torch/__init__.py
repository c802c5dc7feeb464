"""The engine of PyTorch, and the only code that imports it.

Importing a module of this folder other than `engine` loads PyTorch, which takes seconds: import these modules where
they are used.
"""
