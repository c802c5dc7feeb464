"""A model over files and folders, `semseg predict` and `semseg evaluate`, and images with their masks."""
