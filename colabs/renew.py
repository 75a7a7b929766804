"""Runs the notebooks, and writes into them what they show.

Usage: python -m colabs.renew [NAME ...]

All of them unless named, on the CPU, in their full setting. A notebook's metadata keep a digest of the code that its
outputs come from. The figure of the cell tagged "picture" is written to .github/notebook_NAME.png or .jpg as well.
"""

import base64
import hashlib
import io
import os
import pathlib
import sys

import nbclient
import nbformat
from PIL import Image

FOLDER = pathlib.Path(__file__).parent
PICTURES = FOLDER.parent / ".github"


def digest(notebook):
    """Of the code in a notebook, in order."""
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    return hashlib.sha256("\n\n".join(code).encode()).hexdigest()


def smaller(png):
    """The same picture in fewer bytes, and their kind: in 256 colours, or, with too many for these, as JPEG."""
    picture, written = Image.open(io.BytesIO(png)).convert("RGB"), io.BytesIO()
    if picture.getcolors(picture.width * picture.height // 10) is None:  # photographs
        picture.save(written, "jpeg", quality=80)
        return "jpeg", written.getvalue()
    picture.quantize(256, dither=Image.Dither.NONE).save(written, "png", optimize=True)
    return "png", written.getvalue()


def renew(path):
    """Executes a notebook, and writes it and its picture."""
    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(notebook, timeout=None, record_timing=False, coalesce_streams=True)
    client.execute(cwd=FOLDER.parent, env=os.environ | {"JAXMIX_FAST": "0", "JAX_PLATFORMS": "cpu"})
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if png := output.get("data", {}).pop("image/png", None):
                kind, picture = smaller(base64.b64decode(png))
                output.data[f"image/{kind}"] = base64.b64encode(picture).decode()
                if "picture" in cell.metadata.get("tags", ()):
                    (PICTURES / f"notebook_{path.stem}.{kind.replace('e', '')}").write_bytes(picture)
    notebook.metadata.language_info = {"name": "python"}  # of any version
    notebook.metadata.outputs_of = digest(notebook)
    nbformat.write(notebook, path)


if __name__ == "__main__":
    for name in sys.argv[1:] or sorted(path.stem for path in FOLDER.glob("*.ipynb")):
        renew(FOLDER / f"{name}.ipynb")
        print(f"{name}: {(FOLDER / f'{name}.ipynb').stat().st_size // 1000} kB")
