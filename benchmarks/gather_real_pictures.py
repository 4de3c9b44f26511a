"""Photographs and illustrations out of unpacked packages, one square of 512 pixels each, for `real_pictures`.

`python -m benchmarks.gather_real_pictures --packages DIR --out DIR`; DIR holds one folder per Debian package, made with
`apt-get download NAME` and `dpkg-deb -x FILE DIR/NAME`. scikit-image and scikit-learn are read where
they are installed.
Drawings in SVG are rendered by `rsvg-convert` (Debian: librsvg2-bin) on a cream page.
"""

from __future__ import annotations

import argparse
import io
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from PIL import Image

SIDE = 512
PAGE = (247, 237, 212)
PHOTOGRAPHS = {
    "mate-backgrounds": ["usr/share/backgrounds/mate/nature/*.jpg"],
    "lomiri-wallpapers-16.04": ["usr/share/backgrounds/*.jpg"],
    "lomiri-wallpapers-20.04": ["usr/share/backgrounds/Kleiber*.jpg"],
    "scikit-image": [f"data/{name}.*" for name in ("astronaut", "chelsea", "coffee", "motorcycle_left", "rocket")],
    "scikit-learn": ["datasets/images/china.jpg", "datasets/images/flower.jpg"],
}
"""Package to the files of it that are photographs."""
ABSTRACT = ("analogpattern_by_Peter_Nerlich", "umang_by_Abhishek_Mudgal")
"""Among them, but drawn."""
SCENES = ("Altai", "Canopee", "Cascade", "Cluster", "IceCold", "Kay", "Kokkini", "Opal", "Patak", "SafeLanding")
SCENES += ("Shell", "Volna")
PAINTINGS = {
    "lomiri-wallpapers-20.04": ["usr/share/backgrounds/Painting*.jpg"],
    "ukui-wallpapers": [
        f"usr/share/backgrounds/{name}.*"
        for name in ("calla", "city", "desert", "firstgeneration", "focal*", "goldfish", "rollpaper", "the-mouse")
    ],
    "plasma-workspace-wallpapers": [
        f"usr/share/wallpapers/{name}/contents/images/{size}.*"
        for name in SCENES
        for size in ("5120x2880", "3840x2160")
    ],
    "gnome-backgrounds": [f"usr/share/backgrounds/gnome/{name}-l.webp" for name in ("licorice", "pixels")],
}
"""Package to its illustrations as pixels: whole scenes, some with gradients and painted texture."""
DRAWINGS = {
    "openclipart-svg": (
        [f"usr/share/openclipart/svg/{name}/**/*.svg" for name in ("animals", "buildings", "food", "people", "plants")]
        + ["usr/share/openclipart/svg/recreation/**/*.svg", "usr/share/openclipart/svg/transportation/vehicles/*.svg"],
        32,
    ),
    "tuxpaint-stamps-default": (["usr/share/tuxpaint/stamps/**/*.svg"], 10),
}
"""Package to its vector drawings, and how many are taken, evenly over the sorted list."""
LEAST_BYTES, MOST_BYTES = 15_000, 300_000
"""Sizes between which a drawing is a picture: smaller ones are symbols, larger ones traced photographs. Playing cards
are left out: there are two hundred of four designs."""


def main() -> None:
    """Write `photographs/` and `illustrations/`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--packages", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    for kind, found in (("photographs", photographs(given.packages)), ("illustrations", drawn(given.packages))):
        folder = given.out / kind
        folder.mkdir(parents=True, exist_ok=True)
        names = [name for name, picture in found if picture.save(folder / f"{name}.png") is None]
        print(f"{kind}: {len(names)}")


def photographs(packages: Path) -> Iterator[tuple[str, Image.Image]]:
    """Name, `package--file`, and picture of each photograph."""
    for package, patterns in PHOTOGRAPHS.items():
        for path in files(home_of(package, packages), patterns):
            if path.stem not in ABSTRACT:
                yield f"{package}--{path.stem}", square(Image.open(path).convert("RGB"))


def drawn(packages: Path) -> Iterator[tuple[str, Image.Image]]:
    """Name and picture of each illustration."""
    for package, patterns in PAINTINGS.items():
        for path in files(home_of(package, packages), patterns):
            name = path.parents[2].name if package.startswith("plasma") else path.stem
            yield f"{package}--{name}", square(Image.open(path).convert("RGB"))
    for package, (patterns, n) in DRAWINGS.items():
        every = files(home_of(package, packages), patterns)
        fitting = [
            path for path in every if LEAST_BYTES <= path.stat().st_size <= MOST_BYTES and "cards" not in path.parts
        ]
        for path in fitting[:: max(1, len(fitting) // n)][:n]:
            if (picture := rendered(path)) is not None:
                yield f"{package}--{path.stem}", square(picture)


def home_of(package: str, packages: Path) -> Path:
    """Where a package's files are."""
    module = {"scikit-image": "skimage", "scikit-learn": "sklearn"}.get(package)
    if module is None:
        return packages / package
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise SystemExit(f"{package} must be installed; it is not. Install it.")
    return Path(spec.origin).parent


def files(home: Path, patterns: list[str]) -> list[Path]:
    """Files of a package, sorted; a pattern without any is an error."""
    found = [sorted(home.glob(pattern)) for pattern in patterns]
    if not any(found):
        raise SystemExit(f"{home} must hold {patterns[0]}; it does not. Unpack the package there.")
    return sorted({path for some in found for path in some})


def rendered(path: Path) -> Image.Image | None:
    """A drawing on a cream page, 1024 pixels high and wide at most, with a margin; None if it is no valid SVG."""
    size = str(2 * SIDE - 64)
    done = subprocess.run(
        ["rsvg-convert", "--keep-aspect-ratio", "--width", size, "--height", size, str(path)],
        check=False,
        capture_output=True,
    )
    if done.returncode:
        print(f"left out: {path.name}: {done.stderr.decode().strip()}")
        return None
    drawing = Image.open(io.BytesIO(done.stdout)).convert("RGBA")
    page = Image.new("RGBA", (2 * SIDE, 2 * SIDE), (*PAGE, 255))
    page.alpha_composite(drawing, ((2 * SIDE - drawing.width) // 2, (2 * SIDE - drawing.height) // 2))
    return page.convert("RGB")


def square(picture: Image.Image) -> Image.Image:
    """The middle square, reduced (or, if smaller, enlarged) to 512 pixels by Lanczos' filter."""
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    cut = picture.crop((left, top, left + side, top + side))
    return cut.resize((SIDE, SIDE), Image.Resampling.LANCZOS)


if __name__ == "__main__":
    main()
