"""A model over files and folders: `semseg predict` and `semseg evaluate`."""
