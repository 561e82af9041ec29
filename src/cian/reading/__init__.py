"""From a user's files to a table: `read` makes the `data.table.Table`, `check` opens all images and masks.

It uses the formats, which use `data`. Nothing here knows of networks, and nothing imports torch.
"""
