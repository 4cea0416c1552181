"""ShapeNetCore v1 (`<synset>/<id>/model.obj`), v2 (`…/models/model_normalized.obj`), GLB, glTF.

In v1 and v2 +Y points up. By the releases' notes, the front is +X in v1 and -Z in v2: the same
model is turned by 90° about its up axis. Files are used as they are, so the world's front is +X for
v1 and +Y for v2.
"""

import csv
import io
from collections import Counter
from pathlib import Path

from pointcmt.datasets.sources.listing import (
    Listing,
    files,
    folders,
    read_list,
    require_root,
    unrecognized,
)
from pointcmt.datasets.store.schema import SPLITS, ShapeRecord
from pointcmt.errors import UsageError

URL = "https://shapenet.org"
LICENSE = "non-commercial research and education, after registration (ShapeNet terms of use)"
OBTAIN = f"register at {URL}, accept its terms ({LICENSE}), and set --root to the unpacked folder"
SPLITS_URL = "http://shapenet.cs.stanford.edu/shapenet/obj-zip/SHREC16/all.csv"
LAYOUT = (
    "ShapeNetCore as <synset>/<model>/model.obj, <synset>/<model>/models/…normalized.obj or "
    "<synset>/<model>.glb or .gltf"
)

V1, V2 = "model.obj", "models/model_normalized.obj"
GLTF = (".glb", ".gltf")
GLTF_STEMS = ("models/model_normalized", "model_normalized", "model")  # in model folders

# The 55 synsets of ShapeNetCore (Chang et al. 2015), in label order.
SYNSETS = {
    "02691156": "airplane",
    "02747177": "trash_bin",
    "02773838": "bag",
    "02801938": "basket",
    "02808440": "bathtub",
    "02818832": "bed",
    "02828884": "bench",
    "02843684": "birdhouse",
    "02871439": "bookshelf",
    "02876657": "bottle",
    "02880940": "bowl",
    "02924116": "bus",
    "02933112": "cabinet",
    "02942699": "camera",
    "02946921": "can",
    "02954340": "cap",
    "02958343": "car",
    "02992529": "cellphone",
    "03001627": "chair",
    "03046257": "clock",
    "03085013": "keyboard",
    "03207941": "dishwasher",
    "03211117": "display",
    "03261776": "earphone",
    "03325088": "faucet",
    "03337140": "file_cabinet",
    "03467517": "guitar",
    "03513137": "helmet",
    "03593526": "jar",
    "03624134": "knife",
    "03636649": "lamp",
    "03642806": "laptop",
    "03691459": "loudspeaker",
    "03710193": "mailbox",
    "03759954": "microphone",
    "03761084": "microwave",
    "03790512": "motorcycle",
    "03797390": "mug",
    "03928116": "piano",
    "03938244": "pillow",
    "03948459": "pistol",
    "03991062": "flower_pot",
    "04004475": "printer",
    "04074963": "remote_control",
    "04090263": "rifle",
    "04099429": "rocket",
    "04225987": "skateboard",
    "04256520": "sofa",
    "04330267": "stove",
    "04379243": "table",
    "04401088": "telephone",
    "04460130": "tower",
    "04468005": "train",
    "04530566": "watercraft",
    "04554684": "washer",
}


def list_shapenet(dataset: str, root: Path | None) -> Listing:
    """List "shapenetcore", any version. Raises UsageError if `root` does not hold it.

    Splits come from `all.csv` in the root, if present; `official` then counts its lines, which
    reveals models missing on disk. A root one level too high, or at one synset, is accepted.
    """
    root = require_root(root, dataset, OBTAIN)
    found = _find(root)
    if found is None:
        raise unrecognized(root, LAYOUT, OBTAIN)
    base, synsets, notes = found
    versions: Counter[str] = Counter()
    models = [model for synset in synsets for model in _models(base, synset, versions)]
    if not models:
        raise unrecognized(base / synsets[0], LAYOUT, OBTAIN)
    if versions["v1"] and versions["v2"]:
        notes.append(
            f"both versions are present: v2 for {versions['v2']} models, v1 for {versions['v1']}"
        )
        notes.append("v1 models face +X, v2 models face -Z: they are turned against each other")
    if versions["glb"] and versions["glb"] < len(models):
        notes.append(f"{versions['glb']} models are GLB or glTF files, the others OBJ files")
    if versions["spare"]:
        notes.append(f"{versions['spare']} models are also present as GLB or glTF: using OBJ")
    if versions["both"]:
        notes.append(f"{versions['both']} models are present in both versions: using v2")
    splits, official = _read_splits(base / "all.csv")
    if official is None:
        notes.append(
            f"no all.csv in the root (available from {SPLITS_URL}): every shape is listed as train"
        )
    unlisted = sum((synset, model) not in splits for synset, model, _ in models)
    if official is not None and unlisted:
        notes.append(f"{unlisted} models are not in all.csv and are listed as train")
    unknown = [synset for synset in synsets if synset not in SYNSETS]
    if unknown:
        notes.append(f"synsets that are not among the 55 of ShapeNetCore: {', '.join(unknown)}")
    return Listing(
        name=dataset,
        root=base,
        shapes=tuple(
            ShapeRecord(
                id=f"{synset}/{model}",
                class_name=SYNSETS.get(synset, synset),
                split=splits.get((synset, model), "train"),
                source=source,
            )
            for synset, model, source in models
        ),
        class_names=(*SYNSETS.values(), *unknown),
        up="y",
        license=LICENSE,
        url=URL,
        official=official,
        notes=tuple(notes),
    )


def _find(root: Path) -> tuple[Path, list[str], list[str]] | None:
    """Return (directory of the dataset, synsets to list, notes)."""
    synsets = [name for name in folders(root) if _is_synset(name)]
    if synsets:
        return root, synsets, []
    own = root.resolve()
    if _is_synset(own.name):
        return (
            own.parent,
            [own.name],
            [f"the root is the folder of one synset: only {own.name} is listed"],
        )
    deeper = [name for name in folders(root) if any(map(_is_synset, folders(root / name)))]
    if deeper:
        best = max(deeper)  # v2 rather than v1
        synsets = [name for name in folders(root / best) if _is_synset(name)]
        return (
            root / best,
            synsets,
            [f"the root is one level too high: using its subfolder '{best}'"],
        )
    return None


def _is_synset(name: str) -> bool:
    return len(name) == 8 and name.isascii() and name.isdigit()


def _models(base: Path, synset: str, versions: Counter[str]) -> list[tuple[str, str, str]]:
    """Return (synset, model, source) of each model of a synset, sorted, and count versions."""
    found = {}
    for model in folders(base / synset):
        source = _source(base / synset / model, versions)
        if source is not None:
            found[model] = f"{synset}/{model}/{source}"
    for file in files(base / synset):
        model = Path(file).stem
        if not file.lower().endswith(GLTF) or file.lower() in GLTF:
            continue
        if model in found:
            versions["spare"] += found[model].endswith(".obj")
        else:
            versions["glb"] += 1
            found[model] = f"{synset}/{file}"
    return [(synset, model, source) for model, source in sorted(found.items())]


def _source(model: Path, versions: Counter[str]) -> str | None:
    """Return the model's file and count its version; None if the directory has no model."""
    first, second = (model / V1).is_file(), (model / V2).is_file()
    if not first and not second:
        names = [stem + suffix for stem in (*GLTF_STEMS, model.name) for suffix in GLTF]
        packed = next((name for name in names if (model / name).is_file()), None)
        versions["glb"] += packed is not None
        return packed
    versions["both"] += first and second
    versions["v2" if second else "v1"] += 1
    return V2 if second else V1


def _read_splits(path: Path) -> tuple[dict[tuple[str, str], str], dict[str, int] | None]:
    """Return (split by synset and model, models per split) of the official list, if present.

    The list writes synsets as numbers, without the leading zeros of the directory names.
    """
    if not path.is_file():
        return {}, None
    fix = f"its header must be id,synsetId,subSynsetId,modelId,split; download it from {SPLITS_URL}"
    splits: dict[tuple[str, str], str] = {}
    try:
        reader = csv.DictReader(io.StringIO(read_list(path, fix=fix), newline=""))
        for row in reader:
            split = row["split"].strip()
            if split not in SPLITS:
                raise ValueError(f"line {reader.line_num}: unknown split '{split}'")
            splits[row["synsetId"].strip().zfill(8), row["modelId"].strip()] = split
    except (ValueError, KeyError, AttributeError, csv.Error) as error:
        raise UsageError(f"all.csv cannot be read: {error}", where=str(path), fix=fix) from error
    counts = Counter(splits.values())
    return splits, {split: counts[split] for split in SPLITS if counts[split]}
