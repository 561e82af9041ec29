"""A trained model: load it, give it an image, get a mask."""

from __future__ import annotations

import hashlib
import math
import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, TypeGuard, cast, overload

import numpy as np
import torch
from PIL import Image
from pydantic import ValidationError
from safetensors import safe_open
from torch import Tensor

from cian._version import __version__
from cian.build import build_network
from cian.config import FILES, Config, PredictConfig, dump_config
from cian.config.earlier_names import from_earlier
from cian.data.images import alone, image_size, read_image, reduced, upright
from cian.data.problems import ProblemList, quoted
from cian.errors import CianError
from cian.files import read_json, write_json
from cian.formats.class_names import check_name
from cian.inference.decide import label_map, probabilities
from cian.inference.logits import segment_logits
from cian.inference.onnx_network import OnnxNetwork
from cian.inference.prediction import Prediction
from cian.network import CIAN
from cian.parallel import overlapped
from cian.training.checkpoint import load_weights, save_weights

FORMAT = 1  # of config.json in a model's folder
_COPY = "Copy the model again, or give another one"
_SAME_MODEL = "Take both files from the same model."
ImageLike: TypeAlias = str | Path | np.ndarray | Image.Image


@dataclass
class _Saved:
    """The config.json of a model's folder.

    Attributes:
        classes: by id, background first.
        config: the settings.
        cian: the version that wrote it.
        weights: the SHA-256 of model.safetensors. None: not known, as in models of earlier versions.
    """

    format: int
    classes: list[str]
    config: dict[str, Any]
    cian: str = "of an unknown version"
    weights: str | None = None


class Segmenter:
    """A trained network, its classes, and its settings for prediction.

    Args:
        network: is put into evaluation mode.
        config: the configuration that it was trained with.
        class_names: K names in the order of the class ids, background first.
        device: where the network runs.

    Attributes:
        runs: the run that the model was loaded from, for its card. Append runs that differ from it by their random seed
            alone to get the spread of the scores.
        weights: the SHA-256 of the model.safetensors that it was loaded from, or saved to. None: neither.
    """

    def __init__(self, network: CIAN, config: Config, class_names: Sequence[str], device: str | torch.device = "cpu"):
        self.network = network.eval().to(device).to(memory_format=torch.channels_last)
        self.config = config
        self.class_names = tuple(class_names)
        self.runs: tuple[Path, ...] = ()
        self.weights: str | None = None

    @overload
    def predict(  # type: ignore[overload-overlap] # a text is an iterable as well
        self, image: ImageLike, tags: Sequence[str] | None = None, settings: PredictConfig | None = None
    ) -> Prediction: ...

    @overload
    def predict(
        self, image: Iterable[ImageLike], tags: Sequence[str] | None = None, settings: PredictConfig | None = None
    ) -> Iterator[Prediction]: ...

    def predict(
        self,
        image: ImageLike | Iterable[ImageLike],
        tags: Sequence[str] | None = None,
        settings: PredictConfig | None = None,
    ) -> Prediction | Iterator[Prediction]:
        """Segments one image or several.

        Several images are processed at a time, one for each core. Their predictions are yielded in order, so any number
        of images fits into memory.

        Args:
            image: a path, a Pillow image (turned upright by its EXIF orientation), or a (H, W, 3) uint8 RGB array; or
                an iterable of these. A large JPEG file is read at a reduced size, so that a few pixels may differ from
                those of the same image given as an array. A file may have 100 megapixels.
            tags: the only classes that may occur besides background. They hold for all images.
            settings: scales, mirroring, threshold and CRF. Default: those of the model's configuration.

        Returns:
            A `Prediction`; for several images an iterator of predictions.

        Raises:
            CianError: an image cannot be read, or is of a type that is not listed above; a tag is not a class of the
                model. With several images, the predictions of the images before it are yielded first.
        """
        settings = settings or self.config.predict
        allowed = None if tags is None else self.allowed(tags)

        def compute(given: tuple[np.ndarray, np.ndarray]) -> Tensor:
            return segment_logits(self.network, given[1], settings)

        def finish(given: tuple[np.ndarray, np.ndarray], logits: Tensor) -> Prediction:
            full, working = given
            result = probabilities(logits, working, allowed, settings.own_threshold, settings.crf)
            with alone(full.shape[0] * full.shape[1]):
                mask = label_map(result, full.shape[:2])
            return Prediction(full, mask, result, self.class_names)

        if _is_one(image):
            given = self._read(image)
            return finish(given, compute(given))
        if isinstance(image, Mapping | bytes | bytearray | memoryview | Tensor) or not isinstance(image, Iterable):
            raise _not_an_image(image)
        on_cpu = next(self.network.parameters()).device.type == "cpu"
        return cast(Iterator[Prediction], overlapped(on_cpu, image, self._read, compute, finish, _pixels))

    def _read(self, image: ImageLike) -> tuple[np.ndarray, np.ndarray]:
        """The image (H, W, 3) uint8 at its full size, and at the size that the network works on."""
        side = self.config.max_side
        if isinstance(image, str | Path):
            full = read_image(Path(image))
            return full, full if max(full.shape) <= side else read_image(Path(image), side)
        if isinstance(image, Image.Image):
            full = upright(image)
        elif isinstance(image, np.ndarray) and image.ndim == 3 and image.shape[2] == 3 and image.dtype == np.uint8:
            full = image
        else:
            raise _not_an_image(image)
        if not full.size:
            raise CianError(f"image: an array of shape {full.shape} has no pixels. Give at least one.")
        return full, reduced(full, side)

    def save(self, folder: str | Path) -> None:
        """Writes config.json and model.safetensors, which `load` reads.

        Raises:
            CianError: the network was loaded from an ONNX file.
        """
        if isinstance(self.network, OnnxNetwork):
            raise CianError(f"{self.network.path}: an ONNX file is a model by itself. Copy the file.")
        folder = Path(folder)
        save_weights(self.network, folder / "model.safetensors")
        self.weights = _sha256(folder / "model.safetensors")
        write_json(folder / "config.json", self.description())

    def description(self) -> dict[str, Any]:
        """The content of config.json.

        Paths and device of the machine that trained the network are left out. Of the data, the classes that were
        dropped and merged are kept, because tags of new images may have them. The settings for first weights,
        ready-made seeds and saliency maps become the defaults.
        """
        tree = dump_config(self.config)
        del tree["runtime"]
        data = tree.pop("data")
        if changes := {key: data[key] for key in ("drop", "merge") if data[key]}:
            tree["data"] = changes
        defaults = dump_config(Config())
        for section, key in (name.split(".") for name in FILES):
            tree[section][key] = defaults[section][key]
        known = {} if self.weights is None else {"weights": self.weights}
        return {"format": FORMAT, "cian": __version__, "classes": list(self.class_names), "config": tree, **known}

    def save_pretrained(self, folder: str | Path, failures: int = 0) -> None:
        """Writes the model, as `save` does, and its card, README.md, made from `runs`.

        Args:
            failures: how many images to show in the card: those with the worst masks.
        """
        from cian.export.card import write_card

        self.save(folder)
        write_card(self, Path(folder), self.runs, failures)

    @classmethod
    def from_pretrained(cls, source: str | Path, device: str | torch.device = "auto") -> Segmenter:
        """As `cian.load`."""
        return load(source, device)

    def push_to_hub(
        self, repo_id: str, failures: int = 0, *, private: bool | None = None, token: str | None = None
    ) -> str:
        """Uploads what `save_pretrained` writes to the Hugging Face hub.

        Args:
            repo_id: `owner/name`. It is made if it does not exist.
            failures: see `save_pretrained`. These images are published.
            private: whether a new repository is private. Default: as the owner's settings say.
            token: default: that of `hf auth login`.

        Returns:
            The address of the commit.
        """
        from huggingface_hub import HfApi

        api = HfApi(token=token)
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder, failures)  # what is wrong is said before anything is made
            repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
            message = f"Model of cian {__version__}"
            done = api.upload_folder(
                repo_id=repo_id, folder_path=folder, commit_message=message, delete_patterns="failures/*"
            )
        return str(done.commit_url)

    def digest(self) -> str:
        """A fingerprint of the weights and the classes."""
        hashed = hashlib.sha256("\0".join(self.class_names).encode())
        for name, value in self.network.state_dict().items():
            hashed.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
        return hashed.hexdigest()[:16]

    def allowed(self, tags: Sequence[str]) -> np.ndarray:
        """The classes that may occur, (K,) bool: background and some tags.

        Raises:
            CianError: a tag is no class of the model.
        """
        allowed = np.zeros(len(self.class_names), bool)
        allowed[0] = True
        for tag in [tags] if isinstance(tags, str) else tags:
            if tag not in self.class_names:
                raise CianError(
                    f"tag {tag!r}: not a class of this model. Its classes: {', '.join(self.class_names[1:])}."
                )
            allowed[self.class_names.index(tag)] = True
        return allowed


def _is_one(image: ImageLike | Iterable[ImageLike]) -> TypeGuard[ImageLike]:
    """Whether `image` is one image; an array with more than three axes holds several."""
    return isinstance(image, str | Path | Image.Image) or (isinstance(image, np.ndarray) and image.ndim <= 3)


def _pixels(image: ImageLike) -> int:
    """0 for what is no image, which `Segmenter._read` says."""
    if isinstance(image, str | Path):
        try:
            return math.prod(image_size(Path(image)))
        except CianError:
            return 0
    if isinstance(image, Image.Image):
        return math.prod(image.size)
    return math.prod(image.shape[:2]) if isinstance(image, np.ndarray) else 0


def _not_an_image(value: object) -> CianError:
    kind = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
    if isinstance(value, np.ndarray):
        kind = f"{value.dtype} array of shape {value.shape}"
    elif isinstance(value, Tensor):
        kind = f"{value.dtype} tensor of shape {tuple(value.shape)}"
    return CianError(f"image: {kind}. Give a path, a Pillow image or a (H, W, 3) uint8 RGB array, or several of them.")


def load(source: str | Path, device: str | torch.device = "auto") -> Segmenter:
    """Loads a trained model.

    Args:
        source: a model's folder (`runs/NAME/model`), a run, an ONNX file that `cian export` wrote, or a Hugging Face
            hub id (`owner/name`).
        device: "auto" takes a GPU if there is one, else the CPU.

    Raises:
        CianError: there is no model, or its files are damaged or of another version.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if Path(source).suffix.lower() == ".onnx":
        return _load_onnx(Path(source), device)
    folder = model_folder(Path(source)) or _download(str(source))
    file = folder / "config.json"
    config, classes = _read_description(file)
    _compare(file, folder / "model.safetensors", config, len(classes))
    network = build_network(config, len(classes), weights="random")
    load_weights(network, folder / "model.safetensors")
    segmenter = Segmenter(network, config, classes, device)
    segmenter.weights = _checked_weights(file, folder / "model.safetensors")
    if (folder.parent / "stages.json").is_file():
        segmenter.runs = (folder.parent,)
    return segmenter


def saved_weights(file: Path) -> str | None:
    """What a model's config.json says of its weights: their SHA-256, or None.

    Raises:
        CianError: it is missing or damaged.
    """
    return read_json(file, _Saved, _COPY).weights


def _checked_weights(file: Path, weights: Path) -> str:
    """The SHA-256 of weights, compared with what config.json says of them.

    Raises:
        CianError: they have changed since they were written.
    """
    expected, found = saved_weights(file), _sha256(weights)
    if expected not in (None, found):
        raise CianError(
            f"{weights}: damaged, or not of the same model as {file.name}. {_COPY}. If you changed it yourself, remove "
            f'"weights" from {file.name}.'
        )
    return found


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _load_onnx(file: Path, device: str | torch.device) -> Segmenter:
    network = OnnxNetwork(file)
    config, classes = _read_description(file, network.description)
    network.check(len(classes))
    return Segmenter(cast(CIAN, network), config, classes, device)  # in prediction it takes the place of CIAN


def _read_description(file: Path, text: str | None = None) -> tuple[Config, list[str]]:
    """The configuration and the classes in a config.json, or in the metadata of an ONNX file, `text`.

    Raises:
        CianError: they are damaged or of another version.
    """
    tree: Any = read_json(file, cure=_COPY, text=text)
    if not isinstance(tree, dict) or not {"format", "classes", "config"} <= tree.keys():
        raise CianError(f"{file}: is not the configuration of a trained model. Give runs/NAME/model.")
    if tree["format"] != FORMAT:
        raise CianError(
            f"{file}: has format {tree['format']!r}, and this version of cian reads format {FORMAT}. "
            f"{_cure(tree.get('cian', _Saved.cian))}"
        )
    saved: _Saved = read_json(file, _Saved, _COPY, text=text)
    try:
        settings, _ = from_earlier(saved.config, str(file))  # none of them concerns a trained network
        config = Config.model_validate(settings)
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise CianError(f"{file}: {where}: {error.errors()[0]['msg']}. {_cure(saved.cian)}") from None
    _check_classes(file, saved.classes)
    return config, saved.classes


def _check_classes(file: Path, classes: Sequence[str]) -> None:
    """Checks the names of a model's classes as those of tags are checked.

    Raises:
        CianError: a name cannot be that of a class.
    """
    problems = ProblemList()
    for name, count in Counter(classes).items():
        if count > 1:
            problems.add(file, f"class {quoted(name)} occurs twice", _COPY)
        elif name != classes[0]:
            check_name(name, str(file), problems)
    if found := problems.all():
        raise CianError(f"{file}: {found[0].value}. {_COPY}.")


def _compare(file: Path, weights: Path, config: Config, classes: int) -> None:
    """Compares a model's configuration with the shapes of its weights, before memory is taken for them.

    Raises:
        CianError: they do not belong together.
    """
    try:
        with safe_open(weights, framework="pt") as opened:
            shapes = {name: opened.get_slice(name).get_shape() for name in opened.keys()}  # noqa: SIM118 (no mapping)
    except Exception:  # noqa: BLE001 - missing or damaged: `load_weights` says so
        return
    hidden = None if config.affinity.mode == "none" else config.affinity.hidden
    expected = {"classes": ("head.weight", classes), "affinity.hidden": ("affinity.query.weight", hidden)}
    for what, (name, size) in expected.items():
        found = next(iter(shapes.get(name, ())), None)
        if found != size:
            raise CianError(f"{file}: {what} = {size}, but the weights have {found}. {_SAME_MODEL}")
    with torch.device("meta"):  # takes no memory
        network = build_network(config, classes, weights="random")
    for name, value in network.state_dict().items():
        if (shape := shapes.get(name)) != list(value.shape):
            found = "no such weights" if shape is None else shape
            raise CianError(
                f"{file}: backbone {config.backbone.name} has {name} = {list(value.shape)}, but {weights} has {found}. "
                f"{_SAME_MODEL}"
            )


def _cure(version: str) -> str:
    return (
        f"The model was saved by cian {version}, and this is cian {__version__}. Install that version, or train again."
    )


def model_folder(folder: Path) -> Path | None:
    """The folder of a model or of a run's model; None if there is no such folder.

    Raises:
        CianError: it is the folder of a run that has no model yet.
    """
    for place in (folder / "model", folder):
        if (place / "config.json").is_file():
            return place
    if (folder / "config.yaml").is_file():
        raise CianError(f"{folder}: this run has no model yet. Let it finish: cian run --out {folder}")
    return None


def _download(hub_id: str) -> Path:
    """The model's folder, downloaded from the Hugging Face hub or kept from an earlier download.

    Raises:
        CianError: `hub_id` is not a hub id, the hub has no such model, or it cannot be reached.
    """
    give = "Give runs/NAME/model, or a hub id owner/name."
    owner, _, name = hub_id.partition("/")
    if not all(re.fullmatch(r"\w[\w.-]*", part, re.ASCII) for part in (owner, name)) or Path(owner).exists():
        raise CianError(f"{hub_id}: no model here (config.json is missing). {give}")
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils import RepositoryNotFoundError

    try:
        return Path(snapshot_download(hub_id, allow_patterns=["config.json", "model.safetensors"]))
    except Exception as error:  # noqa: BLE001 - the hub client raises many kinds
        says = "has no such model" if isinstance(error, RepositoryNotFoundError) else "could not be reached"
        cause = error.__cause__ or error  # its first line says why
        reason = f"{type(cause).__name__}: {str(cause).strip().partition(chr(10))[0]}"
        raise CianError(
            f"{hub_id}: no such model folder here, and the Hugging Face hub {says} ({reason}). {give}"
        ) from None
