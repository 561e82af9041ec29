"""File formats of tags and masks, one file each.

`registry.open_tags` is the entry point: it recognises the format of what a user gives. `format` is the interface of a
format of tags. The other files are what formats share: `text`, `columns`, `file_index` (names of images),
`mask_folders`, `shapes` (polygons and run lengths), `class_names`, `list_files`, `split_names` and `devkits` (folder
layouts of PASCAL VOC and COCO).
"""
