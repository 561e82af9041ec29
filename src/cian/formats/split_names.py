"""Names of splits, as folders and files are called."""

from __future__ import annotations

from cian.data.table import TRAIN

VAL, TEST = "val", "test"
# By the name of a folder or a file, in lower case.
SPLIT_NAMES = {
    **dict.fromkeys((TRAIN, "training"), TRAIN),
    **dict.fromkeys((VAL, "valid", "validation", "minival"), VAL),
    **dict.fromkeys((TEST, "testing"), TEST),
}
