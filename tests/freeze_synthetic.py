"""Print the fingerprints of the procedural benchmark: python tests/freeze_synthetic.py.

They are on record in fixtures/synthetic.json since before any teacher was measured on it; `--write` makes a record only
where there is none, since another one would void every published number.
"""
import hashlib
import json
import sys
from pathlib import Path

from rdlib.synthetic import CATEGORIES, DEFECTS, render, scene_list

RECORD = Path(__file__).parent / "fixtures" / "synthetic.json"


def digest(pictures) -> str:
    """Compute the SHA-256 of images and masks one after the other."""
    total = hashlib.sha256()
    for image, mask in pictures:
        total.update(image.tobytes())
        total.update(mask.tobytes())
    return total.hexdigest()


def of_kinds(category: str) -> dict[str, str]:
    """Compute one fingerprint for good scenes and one for every kind of defect, at 256 x 256, strengths 0.5 and 1."""
    good = digest(render(category, seed=seed) for seed in (0, 1))
    return {"good": good} | {kind: digest(render(category, seed=seed, defect=kind, strength=strength)
                                          for seed, strength in ((2, 0.5), (3, 1.0))) for kind in DEFECTS[category]}


def of_split(category: str) -> str:
    """Compute the fingerprint of the default split, train and test, at 128 x 128: 340 images."""
    return digest(scene.render(128) for part in ("train", "test") for scene in scene_list(category, part))


def fingerprints() -> dict[str, dict]:
    """Compute the fingerprints of every category."""
    return {"kinds at 256": {category: of_kinds(category) for category in CATEGORIES},
            "default split at 128": {category: of_split(category) for category in CATEGORIES}}


if __name__ == "__main__":
    if "--write" in sys.argv and RECORD.exists():
        sys.exit(f"{RECORD} is on record. Delete it by hand first, if every published number is to be measured anew.")
    text = json.dumps(fingerprints(), indent=1) + "\n"
    if "--write" in sys.argv:
        RECORD.write_text(text, encoding="utf-8")
    else:
        print(text, end="")
