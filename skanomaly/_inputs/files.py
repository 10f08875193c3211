"""Which files of a folder are images."""

import glob
import os
from pathlib import Path

#: Suffixes of the files that are taken from folders and by glob patterns; a list of paths is taken as it is.
IMAGE_SUFFIXES = frozenset(
    [
        ".avif",
        ".bmp",
        ".dib",
        ".gif",
        ".jfif",
        ".jp2",
        ".jpe",
        ".jpeg",
        ".jpg",
        ".pbm",
        ".pgm",
        ".png",
        ".pnm",
        ".ppm",
        ".tga",
        ".tif",
        ".tiff",
        ".webp",
    ]
)
_N_NAMED = 5  # largest number of files named in a message


def is_image_path(text):
    """Return whether a text is the path of one file whose suffix names an image format, whether it exists or not."""
    path = Path(text)
    return path.suffix.lower() in IMAGE_SUFFIXES and not glob.has_magic(text) and not path.is_dir()


def is_image_file(path):
    """Return whether a path is a file, not hidden, whose suffix names an image format."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()


def image_files(folder):
    """Return the image files in a folder and its subfolders, sorted; hidden files and folders are left aside."""
    found = []
    for path in sorted(Path(folder).iterdir()):
        if path.is_dir() and not path.name.startswith("."):
            found += image_files(path)
        elif is_image_file(path):
            found.append(path)
    return found


def find_images(pattern):
    """Return the images that a string stands for, sorted, and the other files that it stands for.

    Parameters
    ----------
    pattern : str
        Path of a file, which is taken as it is; path of a folder, which stands for the images in it; or a glob pattern,
        in which the longest prefix that is the path of an existing folder is taken literally, whatever characters it
        contains. ``**`` stands for any number of nested folders.

    Returns
    -------
    images : list of Path
        Files whose suffix names an image format.
    left_aside : list of Path
        Other entries: notes, thumbnails, hidden files, dead links, and folders called like images.
    """
    path = Path(pattern)
    if path.is_file():
        return [path], []
    folder = next((parent for parent in (path, *path.parents) if parent.is_dir()), Path(path.anchor))
    if folder == path:
        entries = list(path.iterdir())
    else:
        literal = Path(glob.escape(str(folder)))
        entries = [Path(found) for found in glob.glob(str(literal / path.relative_to(folder)), recursive=True)]
    entries = sorted(set(entries))
    images = [entry for entry in entries if is_image_file(entry)]
    others = [entry for entry in entries if not is_image_file(entry) and (_named_like_image(entry) or _is_note(entry))]
    return images, others


def explain_no_match(pattern):
    """Return a part of a message that says that a string stands for no image, and what to do about it."""
    path, (_, others) = Path(pattern), find_images(pattern)
    if path.is_dir():
        return f"the folder {pattern!r} contains no images{_found_instead(path, others)}"
    if not glob.has_magic(pattern):
        return f"there is no file or folder {pattern!r}"
    text = f"{pattern!r} matches no image{_of_names(others)}" if others else f"{pattern!r} matches no file"
    if path.parent.is_dir() and (images := find_images(str(path.parent))[0]):
        text += f"; its folder contains {len(images)} images, such as {images[0].name!r}"
    if "[" not in pattern:
        return text
    return (
        f"{text}; in a glob pattern, brackets match one of the characters between them: if they belong to a name, pass "
        f"{pattern.replace('[', '[[]')!r}"
    )


def stamp_of(path):
    """Return what tells whether a file has changed.

    Parameters
    ----------
    path : path-like
        Path of the file.

    Returns
    -------
    tuple of str
        Size and time of the last change; empty if there is no such file.
    """
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return "", ""
    return str(status.st_size), str(status.st_mtime_ns)


def check_writable(path, name):
    """Raise an OSError before work is done whose result could not be saved.

    Parameters
    ----------
    path : path-like
        Path of a file to write; its folder must exist.
    name : str
        What the message begins with, such as "report=".
    """
    folder = Path(path).parent
    if not folder.is_dir():
        raise FileNotFoundError(f"{name}{str(path)!r}: the folder {str(folder)!r} does not exist; create it first.")
    if Path(path).is_dir():
        raise IsADirectoryError(f"{name}{str(path)!r} is a folder; it must be the path of a file.")
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"{name}{str(path)!r}: the folder {str(folder)!r} is not writable; choose another.")


def check_watchable(patterns):
    """Raise a FileNotFoundError if strings can never stand for images, because they name a folder that is missing."""
    missing = [pattern for pattern in patterns if not (glob.has_magic(pattern) or Path(pattern).exists())]
    if missing:
        raise FileNotFoundError(f"{', '.join(map(explain_no_match, missing))}; create what is to be watched first.")


def name_files(paths):
    """Return a part of a message that names a few of the files, and counts the rest.

    Parameters
    ----------
    paths : list of Path
        Files.

    Returns
    -------
    str
        Names, separated by commas.
    """
    more = f" and {len(paths) - _N_NAMED} more" if len(paths) > _N_NAMED else ""
    return ", ".join(repr(path.name) for path in paths[:_N_NAMED]) + more


def _named_like_image(path):
    return path.suffix.lower() in IMAGE_SUFFIXES


def _is_note(path):
    return path.is_file() and not path.name.startswith(".")


def _found_instead(folder, others):
    n_below = len(image_files(folder))
    if n_below:
        return f", but its subfolders contain {n_below}: pass {str(folder / '**')!r} to take all of them"
    return _of_names(others)


def _of_names(others):
    return f", only {name_files(others)}" if others else ""
