"""Say what the names of folders and files mean: good, bad, masks, a part of a split, a label file."""
import re
from collections.abc import Sequence
from pathlib import Path

DEFECT = (r"(?:bad|ng|n_?ok|ko|not_ok|not_?good|no_good|def|defects?|defective|abnormal|anomal(?:y|ies|ous)|"
          r"fail(?:ed|ures?)?|fault[sy]?|rejects?|rejected)")
WORDS = {"masks": r"(?:(?:bad|ng|ko|def|defects?|defective|anomaly)_)?"
                  r"(?:masks?|ground_?truths?|gt|labels?|annotations?|seg(?:mentations?)?)",
         "good": rf"good|ok|okay|normal|pass|passed|nominal|(?:no|non|not|without|zero|free_of)_?{DEFECT}|"
                 rf"(?:{DEFECT}|damage|flaw|scratch|crack|stain|error)_?(?:free|less)", "bad": DEFECT}
PLAIN = {"good", "ok", "okay", "normal", "pass", "passed", "nominal"}  # the names of good folders that are no surprise
# a part of a split by name, such as train or val_2; the group is what is not for training
SPLIT = re.compile(r"(?:train|(test|val))(?:ing|id|idation)?(?:[^a-z].*)?", re.IGNORECASE)
_MASK = r"(?:masks?|labels?|gt|ground_?truth|seg(?:mentation)?|annotations?)"
MASK_WORD = re.compile(rf"(?<=.)[_.-]{_MASK}(?:[_.-]?\d+)?$|^{_MASK}[_.-](?=.)", re.IGNORECASE)  # in the name of a mask

# a label file beside its image NAME: any separators, or none at a digit, and more words
_LABEL = rf"(?:{_MASK}|ground[\W_]*truth|truth|msk|m|binary|bw|thresh|annotated|overlay|heatmap|roi|defects?)"
LABEL = re.compile(rf"(?:(?:[\W_]+|(?<=\d)){_LABEL})+[\W\d_]*$|^[\W_]*{_LABEL}(?:[\W_]+|(?=\d))")
EDGES = re.compile(r"^[\W_]+|[\W_]+$")  # separators around a name
UUID = re.compile(r"(?i)[\da-f]{8}(?:-[\da-f]{4}){3}-[\da-f]{12}")


def role_of(name: str) -> str:
    """Return "good", "bad" or "masks" if a folder's name says so, else "". ok_front is good, def_front is bad."""
    text = "_".join(re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)).lower()
    for role, words in WORDS.items():
        if match := re.match(rf"(?:{words})(?:_|$)", text):
            return role if role_of(text[match.end():]) in ("", role) else ""
    return ""


def stem_role(stem: str) -> str:
    """Return the role that a word anywhere in a file's name gives, as `role_of`: 003_NG is bad, 3_no_defect good.

    Only whole words count, since letters in a hash say nothing.
    """
    words = re.findall(r"(?<![^\W_])([^\W\d_]+)\d*(?![^\W_])", UUID.sub("", stem))
    return next(filter(None, (role_of("_".join(words[i:])) for i in range(len(words)))), "")


def place_role(place: Path) -> str:
    """Return the role that the names along a relative path give: the strongest of masks, bad and good, or ""."""
    roles = {role_of(name) for name in place.parts}
    return next((role for role in ("masks", "bad", "good") if role in roles), "")


def place_in(root: Path, path: Path) -> Path:
    """Return `path` relative to `root`, or as it is where it lies elsewhere."""
    return path.relative_to(root) if path.is_relative_to(root) else path


def without_labels(paths: Sequence[Path]) -> list[Path]:
    """Leave out label files: NAME_mask, "NAME (label)", NAMEroi and the like beside an image NAME in one folder."""
    names = {path: EDGES.sub("", path.stem.lower()) for path in paths}
    bases = {path: EDGES.sub("", LABEL.sub("", path.stem.lower())) for path in paths}
    known = {(path.parent, name) for path, name in names.items()}
    return [path for path in paths if bases[path] in ("", names[path]) or (path.parent, bases[path]) not in known]
