"""A devkit of PASCAL VOC, written: programs and training scripts for VOC 2012 read it unchanged.

OUT/VOCdevkit/VOC2012 holds JPEGImages, SegmentationClass (indexed, with VOC's palette; 255 = void), Annotations, and
the lists ImageSets/Segmentation/train.txt, val.txt and trainval.txt; also labelmap.txt, the names of the classes. It is
read by `label_maps`, and as `data.voc`.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from xml.sax.saxutils import escape

from PIL import Image

from cian.data.images import open_image, read_image
from cian.data.palette import VOC_COLOURS
from cian.data.table import TRAIN
from cian.files import atomic, copy_file, write_text
from cian.formats.annotations import Item, LabelFormat, Region, Target, safe_path
from cian.formats.label_maps import label_map_text, save_indexed
from cian.formats.split_names import VAL

_QUALITY = 95  # of JPEG
_ORIENTATION_TAG = 0x0112


def _write(items: Iterable[Item], target: Target) -> list[str]:
    root = target.path / "VOCdevkit" / "VOC2012"
    lists: dict[str, list[str]] = {TRAIN: [], VAL: []}
    tagged = saved = 0
    write_text(root / "labelmap.txt", label_map_text(target.classes))
    for item in items:
        assert item.file is not None and item.size is not None
        path = safe_path(item.name).with_suffix("")
        regions = [] if item.drawn is None else item.drawn.regions()
        saved += _save_jpeg(item.file, root / "JPEGImages" / f"{path}.jpg")
        write_text(root / "Annotations" / f"{path}.xml", _xml(item, regions))
        if item.drawn is None:
            tagged += 1
            continue
        label_map = item.drawn.label_map(target.class_ids)
        save_indexed(root / "SegmentationClass" / f"{path}.png", label_map, VOC_COLOURS)
        lists.setdefault(item.split, []).append(str(path))
    lists["trainval"] = lists[TRAIN] + lists[VAL]
    for split, names in lists.items():
        write_text(root / "ImageSets" / "Segmentation" / f"{split}.txt", "".join(f"{name}\n" for name in names))
    lost = []
    if saved:
        lost.append(f"{saved} images were not upright JPEG files, so they are saved again, with losses")
    if tagged:
        lost.append(f"{tagged} images without a label map are in no list of ImageSets/Segmentation")
    return lost


def _save_jpeg(source: Path, target: Path) -> bool:
    """Copies an upright JPEG file, and saves another image as one. Returns whether it was saved."""
    with open_image(source) as image:
        upright = image.format == "JPEG" and image.getexif().get(_ORIENTATION_TAG, 1) == 1
    if upright:
        copy_file(source, target)
        return False
    with atomic(target) as temporary:
        Image.fromarray(read_image(source)).save(temporary, format="JPEG", quality=_QUALITY)
    return True


def _xml(item: Item, regions: list[Region]) -> str:
    """The objects of an image with their boxes, of which the first pixel is 1; and its tags, without boxes."""
    assert item.size is not None
    height, width = item.size
    lines = ["<annotation>", f"  <filename>{escape(safe_path(item.name).stem)}.jpg</filename>"]
    lines.append(f"  <size><width>{width}</width><height>{height}</height><depth>3</depth></size>")
    shown = [region for region in regions if region.label in item.classes()]
    for region in shown:
        down, across = region.mask.shape
        box = {"xmin": region.left + 1, "ymin": region.top + 1, "xmax": region.left + across, "ymax": region.top + down}
        corners = "".join(f"<{key}>{value}</{key}>" for key, value in box.items())
        name = f"<name>{escape(region.label)}</name><difficult>0</difficult>"
        lines.append(f"  <object>{name}<bndbox>{corners}</bndbox></object>")
    for tag in item.tags:
        if tag not in {region.label for region in shown}:
            lines.append(f"  <object><name>{escape(tag)}</name><difficult>0</difficult></object>")
    return "\n".join([*lines, "</annotation>", ""])


FORMAT = LabelFormat("voc", "a devkit of PASCAL VOC", lambda tree: False, None, _write, "", "files")
