"""The colours of classes: our own, for all that people look at, and those of PASCAL VOC, where a format asks for them.

Our colours differ from each other as much as colours can, also for people who see no red, no green or no blue.
`benchmarks/palette.py` makes the table.
"""

from __future__ import annotations

import numpy as np

_CLASSES = """
    fc3c00 4800c0 f0fc0c 840c3c 30fce4 6c60ff 9c5490 f0b454 6cb4ff b41800 603078 c06ccc b4f09c 6c54c0 cc606c 6c90fc
    e49060 549000 48d8f0 903c60 600cf0 e4d800 90d890 306000 b44860 d890d8 603c9c 9060b4 d8786c 84489c 8460d8 ccff84
    cc0c3c 84f06c b4a800 b4609c 783c84 7878f0 fcb4ff d878c0 781860 ff6c90 a8ffc0 9c243c 7824cc fc90c0 d85448 00d830
    603cff 00f0b4 600ca8 78cc78 cc2484 849cfc 6c0090 843054 f04884 3c48b4 9084e4 cc18d8 cc6ca8 fca8e4 ccf048 a8e490
    fc78b4 ff3cd8 c05460 9c90e4 00c030 3c60a8 a83c54 a86cb4 1800d8 6cd8a8 909c3c 306c00 0c9c78 cc9cf0 d83048 a84878
    f09cd8 78b460 900c30 78306c c0c00c a8d878 78c078 9ccc60 fccc54 fc00c0 b47800 3cf00c 841890 a80084 840078 9000b4
    00c0b4 84fc6c 0078c0 9024d8 b4186c 30cccc 7854e4 c054cc 787800 c00030 d86090 b4fc9c 009048 60cc90 00843c b460f0
    a83090 9c3c78 d84890 90e460 ff54e4 8448b4 c018cc 54b448 6c84ff d884cc 48a80c 84fccc 6c3ce4 a830a8 a82448 9cf084
    d86060 30b478 a860a8 fc6084 3c9c18 6078ff 903090 b4489c d8fc60 9c3c24 6018ff 60489c 6060cc 902478 60f0f0 b4546c
    307830 54309c a848f0 781884 c078cc 902448 841854 f0a848 d89c3c 8454b4 783cc0 e430a8 8418a8 e46cf0 6c0cd8 c0483c
    9c24a8 cc78a8 3084c0 a860e4 600ccc 00a878 6ca854 e49ce4 a878d8 48e4ff d82490 c0246c e484a8 a80c30 ff9090 78e49c
    540cb4 9090f0 c030a8 3090d8 cc5454 78f0a8 d848c0 6cc0ff 7800e4 8400c0 9c540c 00e4cc ff249c e48454 30e46c cc8430
    c06c9c 6c78e4 6cfca8 9c48cc ff9cc0 48ccf0 6cff24 e490e4 60cc48 906ccc ffc048 9cd800 b42484 cc48e4 f00084 e46cb4
    c01854 543cf0 e4f090 c06cfc d860d8 9c006c 78a8ff e46c90 cc3060 18c0d8 9c0c00 7848ff d80c0c f0a8f0 c03078 d8a818
    cc9018 9c3cf0 d8f078 8454d8 9c0084 cc54b4 902460 cc90f0 c05484 ff84a8 e45454 fc9c84 e4606c 90c06c 9c489c c048b4
    9c246c 00d89c 3000e4 e4186c ff84cc 6cf054 ff7890 c06cb4 30c090 b42448 9cfc84 a80c90 54e4a8 6c903c
"""
_BACKGROUND, _UNLABELLED = "000000", "a0a0a0"  # class ids 0 and 255


def _voc() -> np.ndarray:
    """Bit b of the octal digits of a class id is bit 7 - b of its red, green and blue."""
    colours = np.zeros((256, 3), np.uint8)
    ids = np.arange(256)
    for bit in range(8):
        for channel in range(3):
            colours[:, channel] |= (((ids >> (3 * bit + channel)) & 1) << (7 - bit)).astype(np.uint8)
    return colours


def _ours() -> np.ndarray:
    codes = [_BACKGROUND, *_CLASSES.split(), _UNLABELLED]
    return np.array([list(bytes.fromhex(code)) for code in codes], np.uint8)


# (256, 3) uint8, by class id.
COLOURS, VOC_COLOURS = _ours(), _voc()
for _each in (COLOURS, VOC_COLOURS):
    _each.flags.writeable = False  # all callers share one array
